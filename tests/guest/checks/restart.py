# SPDX-License-Identifier: MIT
from common import disk_name, eventually, expect

WHAT = "the disk's server process is replaced by another during writes: no error, no write lost or wrong"
SOCKET = '/run/storvsp.sock'
FILE = '/run/restart.img'
TIMES = 3
LOAD = '64 7 6000'


def serve(l1, *options):
  # Its own instance, so that the disks of the machine itself can be told from it.
  job = l1.start(' '.join(('kmcl run --server', *options, f'--bus {SOCKET} --set Path:sz={FILE} --set Subchannels=1',
                           '/usr/lib/kmcl/storvsp.so')))
  l1.wait_output(job, 'started')
  return job


def check(world):
  l1 = world.l1
  l1.run(f'truncate -s 64M {FILE}')
  server = serve(l1)
  guest = world.guest(options=f'--cpus 2 --share-bus {SOCKET}')
  disk = disk_name(guest, 0)
  guest.run(f'(blkload write {disk} {LOAD} direct >/tmp/load 2>&1; echo "status $?" >>/tmp/load) >/dev/null 2>&1 &')

  def written():
    words = guest.run('grep "writes$" /tmp/load | tail -1').split()
    return int(words[0]) if words else 0
  for _ in range(TIMES):
    before = written()
    eventually('writes', 120, lambda: written() > before)
    expect('status' not in guest.run('tail -1 /tmp/load'), 'the writes ended before the server was replaced')
    successor = serve(l1, '--takeover')
    l1.ended(server)
    server = successor
  eventually('the end of the writes', 300, lambda: 'status' in guest.run('tail -1 /tmp/load'))
  said = guest.run('tail -2 /tmp/load').splitlines()
  expect(said[1] == 'status 0', f'the writes ended with {said}')
  l1.run(f'blkload verify {FILE} {LOAD}', 300)
  l1.kill(server, 'TERM')
  return f'{TIMES} times; {said[0]}'
