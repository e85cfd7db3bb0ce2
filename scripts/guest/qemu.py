#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""L1: a machine that QEMU emulates completely, whose KVM (nested SVM) has all that a VMBus host wants.

As a program it boots L1 with a shell on this terminal, to try things by hand.
"""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import images  # noqa: E402  # pylint: disable=wrong-import-position


def command(made, memory, processors, append, more):
  """QEMU's command line. The disk is never changed: writes go to a file that QEMU deletes.

  Without XSAVE, because what QEMU emulates of it in L2 is not consistent with its CPUID, and dear. What stops a processor
  between the injection of an interrupt into L2 and its first instruction makes QEMU (7.2) deliver it twice, and L2 does not
  survive that. So L1 has one processor unless somebody asks for more, in a thread of its own, and no CMPXCHG16B, which stops
  the others to be atomic. The family is one without the old errata that make a kernel avoid the local APIC's timer.
  """
  return [
    images.find_program('qemu-system-x86_64'),
    '-accel', 'tcg,thread=multi', '-machine', 'q35', '-cpu', 'max,+svm,-xsave,-cx16,family=23,model=49', '-smp', str(processors), '-m', str(memory),
    '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
    '-kernel', str(made['kernel']), '-initrd', str(made['l1']),
    '-append', f'console=ttyS0 panic=-1 mitigations=off {append}',
    '-drive', f'file={made["disk"]},format=raw,if=none,id=images,snapshot=on,cache=unsafe', '-device', 'virtio-blk-pci,drive=images',
    '-drive', f'file={made["l2"]},format=raw,if=none,id=l2,readonly=on', '-device', 'virtio-blk-pci,drive=l2',
    '-device', 'virtio-serial-pci',
    *more,
  ]


def main():
  parser = argparse.ArgumentParser(description='Boot L1 with a shell. Ctrl-A x ends it at once, `exit` in order.')
  parser.add_argument('build', nargs='?', default='build', help='build directory with kmcl and its drivers (default: build)')
  parser.add_argument('--memory', type=int, default=2048, metavar='MIB')
  parser.add_argument('--processors', type=int, default=1, metavar='N')
  parser.add_argument('--add', action='append', default=[], metavar='FILE', help='put a program into both machines, as /usr/bin/NAME')
  args = parser.parse_args()
  made = images.images(args.build, Path(args.build, 'guest'), [(f'/usr/bin/{Path(f).name}', f) for f in args.add])
  line = command(made, args.memory, args.processors, 'kmcl.shell quiet', ['-serial', 'mon:stdio'])
  os.execv(line[0], line)


if __name__ == '__main__':
  main()
