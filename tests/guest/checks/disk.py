# SPDX-License-Identifier: MIT
from common import use_disk

WHAT = 'ext4 from outside, real files read, random writes with fsync, e2fsck and contents right outside'
GUEST = {'options': '--cpus 1 --echo --disk /images/disk.ext4 --kvp color=blue'}


def check(world):
  return use_disk(world, world.guest(**GUEST), 1)
