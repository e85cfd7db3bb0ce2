# SPDX-License-Identifier: MIT
"""What several checks have in common."""
import re
import time

from machines import Failed

DISK = '/images/disk.ext4'
SCRATCH = '/run/scratch.img'
MIB = 200
WRITES = 3400  # 3200 that fill the file once, and more on top

SCSI = 'ba6163d9-04a1-4d29-b605-72e2ffb1dc7f'
ECHO = '3c0f6b7d-5e1a-4b29-8d64-0fa27c19e533'


def expect(condition, reason):
  if not condition:
    raise Failed(reason)


def eventually(what, seconds, probe):
  """The first true answer of `probe()`; what it waits for is said when there is none in time."""
  end = time.monotonic() + seconds
  while True:
    answer = probe()
    if answer:
      return answer
    if time.monotonic() > end:
      raise Failed(f'{what}: not after {seconds} s')
    time.sleep(0.2)


def disk_name(guest, number, seconds=240):
  """The device of `kmcl vm`'s disk `number` in the guest, once it is there: the last byte of its instance counts."""
  script = (f'for d in /sys/bus/vmbus/devices/*; do grep -q {SCSI} $d/class_id && '
            'for b in $d/host*/target*/*/block/sd*; do [ -e $b ] && echo ${d##*/} ${b##*/}; done; done; true')

  def probe():
    found = sorted(line.split() for line in guest.run(script).splitlines())
    # Instances of one guest differ in their last byte, in the order of the command line.
    low = [int(instance[-2:], 16) for instance, _ in found]
    wanted = FIRST_DISK_BYTE + number
    return f'/dev/{found[low.index(wanted)][1]}' if wanted in low else None

  return eventually(f'disk {number} in the guest', seconds, probe)


FIRST_DISK_BYTE = 0xa7  # of storvsp_default_instance


def use_disk(world, guest, seed):
  """Reads real files, writes 200 MB at random places; then looks at the file system from outside."""
  disk = disk_name(guest, 0)
  guest.run(f'mount -t ext4 {disk} /mnt')
  differences = guest.run('cd /mnt/modules && find . -type f | sort | cut -c3- | xargs md5sum >/tmp/sums;'
                          ' sort ../modules.md5 >/tmp/right; sort /tmp/sums | diff - /tmp/right | head -5', 300)
  files, mib = guest.run('wc -l </tmp/sums; du -sm /mnt/modules').split()[:2]
  expect(not differences, f'files differ from those outside: {differences}')
  expect(int(mib) >= 50 and int(files) > 100, f'only {files} files of {mib} MB')
  guest.run(f'rm -f /mnt/data && sync && blkload write /mnt/data {MIB} {seed} {WRITES} >/tmp/load', 300)
  guest.run('umount /mnt')
  world.l1.run(f'e2fsck -fn {DISK}', 300)
  world.l1.run(f'mkdir -p /tmp/disk && mount -t ext4 -o loop,ro {DISK} /tmp/disk')
  try:
    world.l1.run(f'blkload verify /tmp/disk/data {MIB} {seed} {WRITES}', 300)
  finally:
    world.l1.run('umount /tmp/disk')
  return f'{files} files of {mib} MB right, {MIB} MB written'


def requests_of_channels(guest, name='disk0'):
  return guest.stats()['devices'][name]['requests_of_channels']


def version_of(text):
  found = re.search(r'Vmbus version:(\d+\.\d+)', text)
  return found[1] if found else None
