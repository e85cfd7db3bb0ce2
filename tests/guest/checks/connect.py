# SPDX-License-Identifier: MIT
from common import ECHO, SCSI, expect, version_of

WHAT = 'newest protocol version of the kernel, offers with the right GUIDs, interrupts that end without an exit'
GUEST = {'options': '--cpus 1 --echo --disk /images/disk.ext4 --kvp color=blue'}

# (what, class, its driver in Linux or None)
OFFERS = [
  ('disk', SCSI, 'hv_storvsc'),
  ('shutdown', '0e0b6031-5213-4934-818b-38d90ced39db', 'hv_utils'),
  ('time', '9527e630-d0ae-497b-adce-e80ab0175caf', 'hv_utils'),
  ('heartbeat', '57164f39-9115-4e78-ab55-382f3bd5422d', 'hv_utils'),
  ('KVP', 'a9a0f4e7-5a45-4d96-b827-8a841e8c03e6', 'hv_utils'),
  ('keyboard', 'f912ad6d-2b17-48ea-bd65-f927a61c7684', None),
  ('echo', ECHO, None),
]


def newest_version(kernel):
  """What that Linux tries first."""
  release = tuple(int(number) for number in kernel.split('.')[:2])
  return '5.3' if release < (6, 17) else '6.0'


def check(world):
  guest = world.guest(**GUEST)
  kernel = guest.run('uname -r').strip()
  got = version_of(guest.run('dmesg | grep "Vmbus version"'))
  expect(got == newest_version(kernel), f'Linux {kernel} agreed on version {got}, its newest is {newest_version(kernel)}')
  # QEMU's processor leaves the APIC's work to KVM: there the guest is advised to look whether an interrupt needs an EOI.
  expect('Using enlightened APIC' in guest.run('dmesg | grep APIC', check=False), 'the guest ends each interrupt with an exit')
  seen = {}
  for line in guest.run('cd /sys/bus/vmbus/devices; for d in *; do [ ! -e $d/driver ] && r=- || r=$(readlink $d/driver);'
                        ' echo $d $(cat $d/class_id $d/device_id) ${r##*/}; done').splitlines():
    name, kind, instance, driver = line.split()
    expect(instance == f'{{{name}}}', f'device {name} says that it is {instance}')
    seen.setdefault(kind.strip('{}'), []).append((name, driver))
  for what, kind, driver in OFFERS:
    found = seen.pop(kind, [])
    expect(len(found) == 1, f'{what}: {len(found)} devices of class {kind} in sysfs')
    expect(driver is None or found[0][1] == driver, f'{what}: its driver is {found[0][1]}, not {driver}')
  expect(not seen, f'sysfs has devices that nobody offered: {seen}')
  return f'VMBus {got}, {len(OFFERS)} offers'
