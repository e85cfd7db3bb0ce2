#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes guards away, one at a time, and demands that a test fails for each.

tests/mutation/guards.txt says what the guards are and how to add one. Everything happens in a copy of the tree,
built with ASan and UBSan. The last line of the output counts the guards; one that nobody misses, and one whose
text is no longer in the source, fails the run.
"""
import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / 'tests'))
import harness

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('directory', type=Path, help='for the copy and its build')
parser.add_argument('--guard', default='', help='only these, by name, separated by commas')
parser.add_argument('--wrapper', default='', help='command that runs the test programs')
parser.add_argument('--check', action='store_true', help='takes nothing away: only see that the list fits the sources; prints TAP')
parser.add_argument('-j', '--jobs', type=int, default=os.cpu_count())
args = parser.parse_args()

LIST = ROOT / 'tests/mutation/guards.txt'
SLOWDOWN = 2  # of the sanitizers, on every time limit
# Compiling takes most of the time, hence the little optimization.
OPTIONS = ['-Dtests=enabled', '-Dsymbols=disabled', '-Dwerror=false', '-Doptimization=1', '-Ddebug=false',
           '-Db_sanitize=address,undefined', '-Db_lundef=false']


@dataclass
class Guard:
  name: str
  line: int
  file: str = ''
  why: str = ''
  tests: list = field(default_factory=list)
  old: list = field(default_factory=list)
  new: list = field(default_factory=list)


def read_guards():
  guards = []
  for number, line in enumerate(LIST.read_text().splitlines(), 1):
    word, _, rest = line.partition(' ')
    if not line or line.startswith('#'):
      continue
    if word == 'guard':
      guards.append(Guard(rest, number))
      continue
    if not guards or word not in ('file', 'why', 'tests', '-', '+'):
      sys.exit(f'{LIST}:{number}: expected guard, file, why, tests, - or +')
    guard = guards[-1]
    if word in ('file', 'why'):
      setattr(guard, word, rest)
    else:
      {'tests': guard.tests.extend, '-': guard.old.append, '+': guard.new.append}[word](
        rest.split() if word == 'tests' else rest.strip())
  for guard in guards:
    if not (guard.file and guard.why and guard.tests and guard.old):
      sys.exit(f'{LIST}:{guard.line}: {guard.name} needs file, why, tests and at least one line "-"')
  names = [guard.name for guard in guards]
  if len(set(names)) != len(names):
    sys.exit(f'{LIST}: two guards have the same name')
  return guards


def without(guard, text):
  """The file's text without the guard, or None when its lines are not there exactly once."""
  lines = text.split('\n')
  bare = [line.strip() for line in lines]
  count = len(guard.old)
  places = [i for i in range(len(bare) - count + 1) if bare[i:i + count] == guard.old]
  if len(places) != 1:
    return None
  at = places[0]
  return '\n'.join(lines[:at] + guard.new + lines[at + count:])


def copy_tree(to):
  """What git knows or would add; unchanged files keep their time, so that the build has little to do."""
  listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard', '-z'], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout.split('\0')
  names = {name for name in listed if name and (ROOT / name).is_file()}
  for name in sorted(names):
    source, target = ROOT / name, to / name
    if not target.exists() or target.read_bytes() != source.read_bytes():
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(source, target)
  for path in to.rglob('*'):
    if path.is_file() and str(path.relative_to(to)) not in names:
      path.unlink()


def run_quietly(command, what):
  done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  if done.returncode != 0:
    return f'{what} failed: {shlex.join(map(str, command))}\n' + '\n'.join(
      [line for line in done.stdout.splitlines() if 'error' in line or 'FAILED' in line][:10])
  return ''


def targets_of(tests):
  """What ninja must build for these tests."""
  info = harness.json.loads((build / 'meson-info/intro-targets.json').read_text())
  files = {target['id']: target['filename'] for target in info}
  wanted = {name for test in tests for target in test['depends'] for name in files[target]}
  return sorted(os.path.relpath(name, build) for name in wanted)


def build_for(tests):
  targets = targets_of(tests)  # none: a script that compiles for itself
  return run_quietly(['ninja', '-C', build, f'-j{args.jobs}', *targets], 'the build') if targets else ''


def first_failure(tests):
  """What the first test that fails says, or ''."""
  for test in tests:
    program = harness.run_program(test, shlex.split(args.wrapper), SLOWDOWN)
    if bad := [case.name for case in program.cases if case.outcome == harness.FAILED]:
      report = re.search(r'(ERROR: AddressSanitizer|runtime error): [^\n]*', program.output)
      return f'{program.name}: ' + (program.problem or bad[0]) + (f' ({report[0][:100]})' if report else '')
    if not any(case.outcome == harness.PASSED for case in program.cases):
      return f'{program.name}: nothing ran'
  return ''


def try_without(guard):
  """(caught, text for people)"""
  path = tree / guard.file
  original = path.read_text() if path.is_file() else ''
  changed = without(guard, original)
  if changed is None:
    return False, f'its lines are not exactly once in {guard.file}: bring {LIST.name}:{guard.line} up to date'
  tests = [by_name[name] for name in guard.tests]
  path.write_text(changed)
  try:
    if problem := build_for(tests):
      return False, problem
    caught = first_failure(tests)
    return bool(caught), caught or f'nobody misses it ({guard.why}): add a test, or name the one that fails'
  finally:
    path.write_text(original)


guards = read_guards()
chosen = [name for name in args.guard.split(',') if name]
if unknown := set(chosen) - {guard.name for guard in guards}:
  sys.exit(f'no such guard in {LIST}: {", ".join(sorted(unknown))}')
guards = [guard for guard in guards if not chosen or guard.name in chosen]

if args.check:
  print(f'1..{len(guards)}')
  for number, guard in enumerate(guards, 1):
    path = ROOT / guard.file
    fits = path.is_file() and without(guard, path.read_text()) is not None
    print(f'{"ok" if fits else "not ok"} {number} - {guard.name}')
    if not fits:
      print(f'# its lines are not exactly once in {guard.file}: bring {LIST.name}:{guard.line} up to date')
  sys.exit(0)

tree, build = args.directory.resolve() / 'tree', args.directory.resolve() / 'build'
copy_tree(tree)
if not (build / 'build.ninja').exists():
  if problem := run_quietly(['meson', 'setup', build, tree, *OPTIONS], 'meson'):
    sys.exit(problem)
elif problem := run_quietly(['ninja', '-C', build, 'build.ninja'], 'meson'):
  sys.exit(problem)
by_name = {test['name']: test for test in harness.listed_tests(build)}
if unknown := {name for guard in guards for name in guard.tests} - set(by_name):
  sys.exit(f'{LIST} names test programs that do not exist: {", ".join(sorted(unknown))}')

# With all guards in place every test passes; otherwise a failure would mean nothing.
needed = [by_name[name] for name in dict.fromkeys(name for guard in guards for name in guard.tests)]
if problem := build_for(needed) or first_failure(needed):
  sys.exit(f'with all guards in place: {problem}')

caught_count = 0
for guard in guards:
  began = time.monotonic()
  caught, text = try_without(guard)
  caught_count += caught
  print(f'{"ok  " if caught else "FAIL"} {guard.name} ({time.monotonic() - began:.0f} s): {text}', flush=True)
print(f'mutation: {caught_count} passed, {len(guards) - caught_count} failed')
sys.exit(caught_count != len(guards))
