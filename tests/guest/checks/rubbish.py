# SPDX-License-Identifier: MIT
from common import ECHO, eventually, expect

WHAT = 'a guest writes rubbish into its rings: the host survives, says why, and other channels go on'
GUEST = {'options': '--cpus 1 --echo --monitors', 'modules': 'hv_vmbus,hv_utils,uio_hv_generic'}

# What ends a channel, and the host must say why; but for the one that only fails its packet.
ANSWERED = 'page-outside-memory'
CASES = ['write-index-outside', 'write-index-odd', 'length-beyond-ring', 'length-zero', 'body-behind-end', 'unknown-type',
         'ranges-without-end', 'page-outside-memory', 'read-index-outside', 'noise']


def complaints(guest, since):
  return [line for line in guest.trace(since).splitlines() if 'server echo' in line and 'failed' in line]


def check(world):
  guest = world.guest(**GUEST)
  said = []
  for case in CASES:
    guest.run('rm -f /tmp/go /tmp/scribble')
    mark = guest.trace_length()
    guest.run(f'(scribble {ECHO} {case} /tmp/go >/tmp/scribble 2>&1; echo "status $?" >>/tmp/scribble) >/dev/null 2>&1 &')
    if case == ANSWERED:
      eventually(f'{case}: an answer', 120, lambda: 'answered' in guest.run('cat /tmp/scribble'))
    else:
      eventually(f'{case}: a word from the host', 120, lambda: complaints(guest, mark))
      said.append(complaints(guest, mark)[0])
    guest.run('touch /tmp/go')
    ended = eventually(f'{case}: the end of the program', 240, lambda: guest.run('grep status /tmp/scribble; true'))
    expect(ended.strip() == 'status 0', f'{case}: {guest.run("cat /tmp/scribble")}')
    # The same device is good for another client, and the rest of the bus has not noticed.
    guest.run(f'scribble {ECHO} exchange -', 300)
    guest.ctl('heartbeat')
  return f'{len(CASES)} kinds, the last words of the host: {said[-1]}'
