# SPDX-License-Identifier: MIT
import re

from common import disk_name, eventually, expect

WHAT = 'drivers unloaded and loaded 50 times, the bus 5 times, kexec, reboot: nothing is left in the host'
GUEST = {'options': '--cpus 1 --echo --disk /images/disk.ext4,ro'}
DRIVERS = 'hv_storvsc hv_utils'


def footprint(guest):
  """What must not grow."""
  stats = guest.stats()
  return {'files': stats['process']['files'], 'memory': stats['process']['memory_bytes'],
          'doorbells': stats['synic']['doorbells'], 'guests': stats['bus']['guests']}


def settled(guest):
  """Once everything of the guest's is at work."""
  disk_name(guest, 0)
  eventually('a heartbeat', 240, lambda: guest.l1.run_status(f'kmcl vmctl {guest.control} heartbeat')[1] == 0)
  return footprint(guest)


def compare(what, before, after):
  for name, value in before.items():
    room = 262144 if name == 'memory' else 0  # the C library keeps some
    expect(after[name] <= value + room, f'{what}: {name} were {value}, are {after[name]}')


def check(world):
  guest = world.guest(**GUEST)
  # Once before counting: what is made at the first use stays.
  cycle = f'rmmod {DRIVERS} && modprobe -a {DRIVERS}'
  guest.run(cycle)
  before = settled(guest)
  for _ in range(5):
    guest.run(f'for i in 1 2 3 4 5 6 7 8 9 10; do {cycle} || exit 1; done', 600)
  compare('after 50 times', before, settled(guest))

  all_drivers = f'{DRIVERS} hv_vmbus'
  guest.run(f'for i in 1 2 3 4 5; do rmmod {all_drivers} && modprobe -a {DRIVERS} || exit 1; done', 300)
  compare('after the bus was left 5 times', before, settled(guest))

  guest.run(f'mount -t ext4 -o ro,noload {disk_name(guest, 0)} /mnt')
  mark = guest.mark()
  guest.stream.send(f'9 60 cp /mnt/kexec/* /tmp; umount /mnt; kexec /tmp/bzImage /tmp/l2.cpio "{guest.command_line}"\n')
  guest.wait_until_up(mark)
  booted = guest.stats()['machine']['boots']
  compare('after kexec', before, settled(guest))
  expect(booted == 1, f'kexec was a reset: {booted} boots')

  mark = guest.mark()
  guest.ctl('reboot')
  guest.wait_until_up(mark)
  booted = guest.stats()['machine']['boots']
  expect(booted == 2, f'{booted} boots after one reboot')
  after = settled(guest)
  compare('after a reboot', before, after)
  seen = re.search(r'Vmbus version:\S+', guest.run('dmesg'))
  expect(seen, 'the rebooted kernel found no bus')
  return ', '.join(f'{name} {before[name]} then {after[name]}' for name in before)
