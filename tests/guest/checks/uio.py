# SPDX-License-Identifier: MIT
from common import ECHO, expect

WHAT = 'our client in the guest, on uio_hv_generic: synchronous requests and external data, nothing lost'
GUEST = {'options': '--cpus 2 --echo --monitors', 'modules': 'hv_vmbus,hv_utils,uio_hv_generic'}
# A round trip takes milliseconds in machines like these, however short it is.
SYNCHRONOUS, IN_FLIGHT, EXTERNAL = 1000, 69000, 30000


def check(world):
  guest = world.guest(**GUEST)
  listed = guest.run('kmcl ls --bus uio:all')
  expect(ECHO in listed, f'kmcl ls does not show the echo device: {listed}')
  # The first binds the device. The server turns over every bit of the external data, in the guest's own pages.
  for count, options in ((SYNCHRONOUS, f'uio:bind={ECHO}'), (IN_FLIGHT, f'uio:{ECHO} --depth 256'),
                         (EXTERNAL, f'uio:{ECHO} --depth 256 --external 4096')):
    said = guest.run(f'kmcl ping --bus {options} --count {count} --size 64', 400)
    expect(f'{count} answers, 0 wrong, 0 failed, 0 lost' in said, said)
  return f'{SYNCHRONOUS} synchronous, {IN_FLIGHT} in flight, {EXTERNAL} with 4 KiB of external data'
