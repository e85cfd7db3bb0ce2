# SPDX-License-Identifier: MIT
from common import SCRATCH, SCSI, eventually, expect, requests_of_channels, use_disk

WHAT = 'the same with two processors and subchannels'
GUEST = {'options': f'--cpus 2 --queues 2 --echo --disk /images/disk.ext4 --disk {SCRATCH}'}


def prepare(world):
  """The second disk, if it is not there."""
  world.l1.run(f'[ -e {SCRATCH} ] || truncate -s 64M {SCRATCH}')


def check(world):
  guest = world.guest(**GUEST)

  def has_two_each():
    """The guest adds subchannels after the disk is there."""
    channels = guest.run(f'for d in /sys/bus/vmbus/devices/*; do grep -q {SCSI} $d/class_id && ls $d/channels | wc -l; done; true').split()
    return channels and all(int(number) == 2 for number in channels)

  eventually('two channels of each disk in sysfs', 240, has_two_each)
  said = use_disk(world, guest, 2)
  used = requests_of_channels(guest)
  expect(len(used) >= 2 and all(number > 100 for number in used[:2]), f'requests by channel: {used}')
  events = guest.run(f'for d in /sys/bus/vmbus/devices/*; do grep -q {SCSI} $d/class_id && cat $d/channels/*/interrupts; done; true').split()
  expect(all(int(number) > 0 for number in events[:2]), f'interrupts by channel in the guest: {events}')
  return f'{said}, requests by channel {used[0]} and {used[1]}'
