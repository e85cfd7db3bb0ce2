# SPDX-License-Identifier: MIT
import re

from common import expect

WHAT = 'a kernel that does nothing but abuse VMBus: the host survives and says why, other guests and processes go on'
KERNEL = '/usr/bin/rubbish_kernel'
DISKS = ('/run/hostile0.img', '/run/hostile1.img')
SOCKET = '/run/hostile.sock'
SEEDS = (1, 2)
EPISODES = 3  # resets of the machine in between
STEPS = 150


def total(what, text):
  return sum(int(number) for number in re.findall(rf'{what} (\d+)', text))


def check(world):
  l1 = world.l1
  l1.run(f'truncate -s 16M {" ".join(DISKS)}')
  server = l1.start(f'kmcl run --server --bus {SOCKET} /usr/lib/kmcl/echo.so')
  l1.wait_output(server, 'started')
  said = ''
  for seed in SEEDS:
    text, status = l1.run_status(
      f'kmcl vm --kernel {KERNEL} --memory 64 --cpus 2 --queues 2 --disk {DISKS[0]} --disk {DISKS[1]},ro --kvp a=b'
      f' --share-bus {SOCKET} --append "seed={seed} episodes={EPISODES} steps={STEPS}" </dev/null 2>&1', 300)
    expect(status == 0 and 'rubbish: done' in text, f'seed {seed}: kmcl vm ended with status {status}: {text[-1500:]}')
    expect('broke a rule' in text, f'seed {seed}: the host said nothing')
    said += text
  expect(total('opens', said) > 0 and total('packets', said) > 0, 'it got nowhere: no channel was ever open')
  # Who was there beside it.
  l1.run(f'kmcl ping --bus {SOCKET} --count 100')
  if world.current and not world.current.is_gone:
    world.current.run('true')
  l1.kill(server, 'TERM')
  l1.ended(server)
  return (f'{len(SEEDS) * EPISODES} lives, {total("posts", said)} messages, {total("opens", said)} channels opened, '
          f'{total("packets", said)} packets')
