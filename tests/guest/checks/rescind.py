# SPDX-License-Identifier: MIT
from common import disk_name, eventually, expect
from smp import GUEST, prepare  # noqa: F401  # pylint: disable=unused-import

WHAT = 'a disk is taken away while it is in use, and comes back'


def check(world):
  guest = world.guest(**GUEST)
  disk = disk_name(guest, 1)
  # More writes than it will ever come to.
  guest.run(f'(blkload write {disk} 64 3 100000000 direct >/tmp/load 2>&1; echo "status $?" >>/tmp/load) >/dev/null 2>&1 &')
  eventually('writes to the disk', 240, lambda: 'writes' in guest.run('cat /tmp/load | tail -1'))
  guest.ctl('rescind disk1')
  eventually('an error for who writes', 240, lambda: 'status' in guest.run('tail -1 /tmp/load'))
  said = guest.run('cat /tmp/load')
  expect('status 1' in said and 'blkload: write' in said, f'who wrote was told: {said[-300:]}')
  eventually('the end of the disk in sysfs', 240, lambda: guest.run(f'[ -e /sys/block/{disk[5:]} ] || echo gone'))
  # The rest of the bus.
  guest.run(f'dd if={disk_name(guest, 0)} of=/dev/null bs=64k count=64 skip=100 iflag=direct')
  guest.ctl('heartbeat')

  guest.ctl('offer disk1')
  again = disk_name(guest, 1)
  guest.run(f'blkload write {again} 64 4 1200 direct >/tmp/load', 300)
  guest.run(f'blkload verify {again} 64 4 1200')
  guest.run(f'dd if={disk_name(guest, 0)} of=/dev/null bs=64k count=64 skip=200 iflag=direct')
  return f'{disk} came back as {again}'
