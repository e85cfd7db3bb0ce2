# SPDX-License-Identifier: MIT
"""A guest's disk: storvsp in `kmcl vm`, and virtio-blk in QEMU's machine, both below the same KVM.

The machines are those of `make guest`: a PC that QEMU emulates, whose KVM runs both. An exit, an interrupt and an I/O are counted, which
emulation does not change; time is a ratio of two guests that are emulated alike, no more.
"""
import json
import statistics
import sys
import tempfile
from pathlib import Path

from measure import Failed as NotMeasured

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'tests/guest')]
from machines import L1, Failed, Guest, compile_program, images  # noqa: E402  # pylint: disable=wrong-import-position

QEMU = 'qemu-system-x86_64'
# QEMU looks for them where they are here.
FIRMWARE = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/kvmvapic.bin', '/usr/share/qemu/linuxboot_dma.bin']
DISK = '/images/bench.img'  # on a file system whose pages are in memory
DISK_MIB = 64
DEPTH = 32
READS = 2000  # in the short run; three times as many in the long one
RUNS = 3      # of each, in every boot
BOOTS = 2


class Ours(Guest):
  DEVICE, ROW = '/dev/sda', 'HYP:'

  def __init__(self, l1):
    super().__init__(l1, options=f'--disk {DISK}', modules='hv_vmbus,hv_storvsc,sd_mod')


class Virtio(Guest):
  DEVICE, ROW = '/dev/vda', 'virtio0-req'

  def __init__(self, l1):
    super().__init__(l1, modules='virtio_pci,virtio_blk')

  def command(self, options, memory):
    return (f'{QEMU} -accel kvm -machine q35 -cpu host -m {memory} -nodefaults -no-user-config -display none -no-reboot -serial stdio'
            f' -kernel {self.KERNEL} -initrd {self.INITRD} -append "{self.command_line}"'
            f' -object iothread,id=io -drive file={DISK},format=raw,if=none,id=disk,cache=writeback,aio=io_uring'
            ' -device virtio-blk-pci,drive=disk,iothread=io')


def exits(l1):
  return int(l1.run('cat /sys/kernel/debug/kvm/exits'))


def load(guest, reads):
  """(exits, what the program in the guest says) of so many reads."""
  before = exits(guest.l1)
  said = json.loads(guest.run(f'disk_load {guest.DEVICE} {DEPTH} {reads} {guest.ROW}'))
  return exits(guest.l1) - before, said


def measure_guest(guest, samples):
  """What one more read costs: the console and the start of the program are in both runs."""
  guest.wait_until_up()
  guest.run(f'until [ -b {guest.DEVICE} ]; do usleep 100000; done')
  load(guest, READS)
  for _ in range(RUNS):
    few, short = load(guest, READS)
    many, long = load(guest, 3 * READS)
    samples['exits'].append((many - few) / (2 * READS))
    samples['interrupts'].append((long['interrupts'] - short['interrupts']) / (2 * READS))
    samples['ns_each'].append(long['ns_each'])


def spread(values):
  return {'median': statistics.median(values), 'min': min(values), 'max': max(values), 'n': len(values)}


def missing():
  """Why this cannot be measured here, or None."""
  try:
    images.find_program(QEMU)
  except SystemExit as why:
    return str(why)
  gone = [path for path in FIRMWARE if not Path(path).exists()]
  return f'{gone[0]} is missing' if gone else None


def measure_guests(build, folder):
  program = folder / 'disk_load'
  compile_program(program, [ROOT / 'bench/disk_load.c'], ['-O2', '-std=gnu11', '-D_GNU_SOURCE', '-static'])
  made = images.images(build, folder, [('/usr/bin/disk_load', program)],
                       [(f'/usr/bin/{QEMU}', images.find_program(QEMU)), *((path, path) for path in FIRMWARE)])
  samples = {name: {'exits': [], 'interrupts': [], 'ns_each': []} for name in ('ours', 'virtio')}
  with tempfile.TemporaryDirectory(prefix='kmcl-bench-') as sockets:
    l1 = L1(made, folder, sockets, 'l1')
    try:
      l1.wait_until_up()
      l1.run(f'mount -t debugfs debug /sys/kernel/debug; head -c {DISK_MIB << 20} /dev/urandom >{DISK}')
      for _ in range(BOOTS):
        for name, kind in ('ours', Ours), ('virtio', Virtio):
          guest = kind(l1)
          try:
            measure_guest(guest, samples[name])
          finally:
            guest.close()
    finally:
      l1.close()
  return samples


def measure(build):
  """{'ours': {'exits': spread, 'interrupts': spread, 'ns_each': spread}, 'virtio': ...}"""
  folder = Path(build, 'guest-bench')
  folder.mkdir(parents=True, exist_ok=True)
  try:
    samples = measure_guests(build, folder)
  except Failed as why:
    raise NotMeasured(f'{why}; the consoles are in {folder}') from why
  return {name: {what: spread(values) for what, values in figures.items()} for name, figures in samples.items()}
