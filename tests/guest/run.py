#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`make guest`: boots stock Linux guests on our VMBus host and reports each check on a line of its own.

The checks are in checks/, a file each, with

  WHAT            what passes, in words
  prepare(world)  makes what GUEST needs in L1; may be missing
  GUEST           keyword arguments of the Guest that it wants; checks with the same ones share a boot
  check(world)    raises Failed, with the reason; returns what it measured, or nothing

Those of LANES run beside each other in a machine of their own. A check that failed may leave a guest that is no use:
the next one gets a new guest. Nothing is tried twice.
"""
import argparse
import atexit
import importlib.util
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / 'checks')]
from machines import L1, Failed, Guest, compile_program, images  # noqa: E402  # pylint: disable=wrong-import-position

# In this order, each list in an L1 of its own.
LANES = [
  ['connect', 'disk', 'services', 'reload', 'rubbish', 'hostile'],
  ['smp', 'rescind', 'restart', 'uio'],
]
PROGRAMS = ['blkload', 'kexec', 'scribble']
LIMIT = 1500  # seconds for everything: more means that something hangs
# A program that runs as it is, in both machines.
CFLAGS = ('-O2 -g -std=gnu11 -D_GNU_SOURCE -static -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes '
          '-Wmissing-prototypes -Wvla -Werror').split()

# A kernel of our own, at pages whose numbers no packet of its own contains by chance.
KERNEL = 'rubbish_kernel'
KERNEL_FLAGS = ('-O2 -g -std=gnu11 -ffreestanding -nostdlib -static -no-pie -fno-pie -mno-red-zone -mgeneral-regs-only '
                '-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns '
                '-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror -Wno-array-bounds '
                '-Wl,-e,start_32,-Ttext-segment=0xA5B000,--build-id=none,-z,noexecstack,-z,max-page-size=4096').split()

printing = threading.Lock()


def say(*words):
  with printing:
    print(*words, flush=True)


def load(name):
  spec = importlib.util.spec_from_file_location(f'check_{name}', HERE / 'checks' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class World:
  """What a check has at hand."""

  def __init__(self, l1):
    self.l1 = l1
    self.current = None
    self.arguments = None

  def guest(self, **arguments):
    """A running guest with these arguments: the one that is there, if it has them, else a new one."""
    if self.current and (self.current.is_gone or self.arguments != arguments):
      self.drop()
    if not self.current:
      self.arguments = arguments
      self.current = Guest(self.l1, **arguments)
      self.current.wait_until_up()
    return self.current

  def drop(self):
    guest, self.current = self.current, None
    if guest:
      guest.close()


def build_programs(folder):
  made = []
  for name in PROGRAMS:
    source = HERE / 'programs' / f'{name}.c'
    if source.exists():
      compile_program(folder / name, [source], CFLAGS)
      made.append((f'/usr/bin/{name}', folder / name))
  sources = sorted((HERE / 'programs' / KERNEL).glob('*.c'))
  compile_program(folder / KERNEL, sources, KERNEL_FLAGS)
  made.append((f'/usr/bin/{KERNEL}', folder / KERNEL))
  return made


class Lane(threading.Thread):
  """The checks of one L1."""

  def __init__(self, name, checks, made, logs, sockets):
    super().__init__(daemon=True)
    self.name = name
    self.checks = checks
    self.made, self.logs, self.sockets = made, logs, sockets
    self.passed, self.failed = [], []
    self.l1 = None

  def run(self):
    try:
      self.l1 = L1(self.made, self.logs, self.sockets, self.name)
      self.l1.wait_until_up()
    except Exception as problem:  # pylint: disable=broad-exception-caught
      for name in self.checks:
        self.fail(name, f'{problem}; its console is in {self.logs}')
      return
    world = World(self.l1)
    for name in self.checks:
      self.one(name, world)
    try:
      world.drop()
    except Failed:
      pass
    self.l1.close()

  def one(self, name, world):
    began, worked = time.monotonic(), self.l1.processor_time()
    try:
      module = load(name)
      if hasattr(module, 'prepare'):
        module.prepare(world)
      if getattr(module, 'GUEST', None) is not None:
        world.guest(**module.GUEST)
      figures = module.check(world)
      took = f'{time.monotonic() - began:.0f} s, {self.l1.processor_time() - worked:.0f} s of processor time'
      self.passed.append(name)
      say(f'ok   {name}: {module.WHAT}{"; " + figures if figures else ""} ({took})')
    except Failed as problem:
      self.fail(name, str(problem), world)
    except Exception:  # pylint: disable=broad-exception-caught
      self.fail(name, traceback.format_exc(), world)

  def fail(self, name, reason, world=None):
    """Keeps everything that tells why, shows the end of it, and takes the guest away."""
    self.failed.append(name)
    texts = {}
    if world:
      if world.current:
        texts['guest console'] = world.current.console_text()
        texts['kmcl vm'] = world.current.log_text()
      try:
        if world.current:
          texts['bus trace'] = world.current.trace()
        texts['programs in L1'] = self.l1.job_logs()
        texts['kernel of L1'] = self.l1.run('dmesg | tail -40', check=False)
        world.drop()
      except Failed as problem:
        texts['L1'] = str(problem)
        world.current = None
    log = Path(self.logs, f'{name}.log')
    log.write_text(''.join(f'==== {what}\n{text}\n' for what, text in texts.items()))
    tails = ''.join(f'     ---- {what}, the end of it\n' + ''.join(f'     {line}\n' for line in text.splitlines()[-30:])
                    for what, text in texts.items())
    say(f'FAIL {name}: {reason}\n{tails}     all of it is in {log}')


def main():
  parser = argparse.ArgumentParser(description='Run the checks with real guests.')
  parser.add_argument('build', help='build directory')
  parser.add_argument('--check', default='', metavar='NAMES', help='only these, separated by commas')
  args = parser.parse_args()

  known = [name for lane in LANES for name in lane]
  wanted = [name for name in args.check.split(',') if name] or known
  unknown = [name for name in wanted if name not in known]
  if unknown:
    sys.exit(f'no check {", ".join(unknown)}; there are {", ".join(known)}')

  build = Path(args.build, 'guest')
  logs = build / 'logs'
  shutil.rmtree(logs, ignore_errors=True)
  logs.mkdir(parents=True)
  made = images.images(args.build, build, build_programs(build))
  # A socket's name has 107 characters at most.
  sockets = tempfile.mkdtemp(prefix='kmcl-guest-')
  atexit.register(shutil.rmtree, sockets, True)

  began = time.monotonic()
  lanes = []
  for i, lane in enumerate(LANES):
    checks = [name for name in lane if name in wanted]
    if checks:
      lanes.append(Lane(f'l1-{i}', checks, made, logs, sockets))
      lanes[-1].start()
  for lane in lanes:
    lane.join(max(1, LIMIT - (time.monotonic() - began)))
  for lane in lanes:
    if lane.is_alive():
      for name in lane.checks:
        if name not in lane.passed and name not in lane.failed:
          lane.fail(name, f'not done after {LIMIT} s')
      if lane.l1:
        lane.l1.close()
  passed, failed = (sum(len(getattr(lane, what)) for lane in lanes) for what in ('passed', 'failed'))
  say(f'took {time.monotonic() - began:.0f} s')
  say(f'guest: {passed} passed, {failed} failed')
  sys.exit(1 if failed or not passed else 0)


if __name__ == '__main__':
  main()
