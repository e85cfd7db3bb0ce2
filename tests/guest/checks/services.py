# SPDX-License-Identifier: MIT
import time

from common import eventually, expect

WHAT = 'heartbeat, time, key/value pairs, shutdown from outside'
GUEST = {'options': '--cpus 1 --echo --disk /images/disk.ext4 --kvp color=blue'}


def beats(guest):
  text, status = guest.l1.run_status(f'kmcl vmctl {guest.control} heartbeat')
  return int(text.split(',')[1].split()[0]) if status == 0 else 0


def check_heartbeat(guest):
  first = eventually('the first heartbeat', 240, lambda: beats(guest))
  eventually('the next heartbeat', 240, lambda: beats(guest) > first)


def check_time(guest):
  guest.run('date -s @1000000000')
  early = int(guest.run('date +%s'))
  expect(early < 1000001000, 'the clock of the guest cannot be set wrong')
  guest.ctl('time')

  def right():
    before = int(guest.l1.run('date +%s'))
    now = int(guest.run('date +%s'))
    after = int(guest.l1.run('date +%s'))
    return before - 2 <= now <= after + 2
  eventually('the right time in the guest', 60, right)


def pool(guest):
  """{key: value} of what the guest's daemon has got from the host: records of 512 and 2048 bytes."""
  text = guest.run("tr '\\000\\n' '\\n ' </var/lib/hyperv/.kvp_pool_0 | grep .").splitlines()
  return dict(zip(text[::2], text[1::2]))


def check_kvp(guest):
  guest.run('hv_kvp_daemon')
  eventually('the item of the command line', 240, lambda: pool_or_none(guest).get('color') == 'blue')
  guest.ctl('kvp set shape "round and flat"')
  eventually('the item set now', 240, lambda: pool_or_none(guest).get('shape') == 'round and flat')
  guest.ctl('kvp set color red')
  eventually('the item changed', 240, lambda: pool_or_none(guest).get('color') == 'red')


def pool_or_none(guest):
  _, status = guest.run_status('[ -s /var/lib/hyperv/.kvp_pool_0 ]')
  return pool(guest) if status == 0 else {}


def check_shutdown(guest):
  mark = guest.mark()
  guest.ctl('shutdown')
  guest.wait('l2: asked to poweroff', since=mark)
  guest.wait('reboot: Power down', since=mark)
  status = guest.ended()
  expect(status == 0, f'kmcl vm ended with status {status}')


def check(world):
  guest = world.guest(**GUEST)
  parts = []
  for part in (check_heartbeat, check_time, check_kvp, check_shutdown):
    began = time.monotonic()
    part(guest)
    parts.append(f'{part.__name__[6:]} {time.monotonic() - began:.0f} s')
  return ', '.join(parts)
