# SPDX-License-Identifier: MIT
"""Runs the test programs that meson lists and reads the TAP lines that cmocka prints.

What it guarantees: every test that a program announced is accounted for. A program that crashes,
runs out of time, ends early, or fails although none of its tests did, adds one failed test under
the program's own name.
"""
import concurrent.futures
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'
EXIT_SKIPPED = 77
JOBS = (os.cpu_count() or 1) + 1  # at a time: most programs wait for much of theirs

PLAN = re.compile(r'1\.\.(\d+)$')
# cmocka writes a skipped test as "not ok 3 # SKIP name", newer ones as "ok 3 # SKIP name".
RESULT = re.compile(r'(not )?ok (\d+) (-|# SKIP) (\S+)')
CLAUSES = re.compile(r'clause-test: (\S+) (.+)$')

# Only a build under a sanitizer reads these; what the caller has set wins.
SANITIZER_OPTIONS = {
  'ASAN_OPTIONS': 'allow_user_segv_handler=0:detect_stack_use_after_return=1:strict_string_checks=1',
  'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1',
}


@dataclass
class Case:
  name: str
  outcome: str


@dataclass
class Program:
  name: str
  cases: list
  clauses: list  # (case name, text of clause ids), in the order printed
  problem: str   # why the program as a whole failed, or ''
  output: str
  seconds: float

  def count(self, outcome):
    return sum(case.outcome == outcome for case in self.cases)


def listed_tests(build):
  """The tests of a build directory, which may have been copied elsewhere since it was configured."""
  info = Path(build, 'meson-info')
  was = json.loads((info / 'meson-info.json').read_text())['directories']
  now_build = os.path.abspath(build)
  now_source = os.path.normpath(os.path.join(now_build, os.path.relpath(was['source'], was['build'])))

  def moved(path):
    for old, new in (was['build'], now_build), (was['source'], now_source):
      if path == old or path.startswith(old + '/'):
        return new + path[len(old):]
    return path

  tests = json.loads((info / 'intro-tests.json').read_text())
  for test in tests:
    test['cmd'] = [moved(word) for word in test['cmd']]
    test['env'] = {key: moved(value) for key, value in test['env'].items()}
    test['workdir'] = moved(test['workdir'] or was['build'])
    test['suite'] = [suite.split(':')[-1] for suite in test['suite']]
  return tests


def select(tests, suites=(), patterns=(), skipped=(), skipped_suites=()):
  """
  The tests of any of these suites whose name matches any of these patterns (none given: all), without those that are to be
  skipped.
  """
  return [test for test in tests
          if (not suites or set(suites) & set(test['suite']))
          and not set(skipped_suites) & set(test['suite'])
          and (not patterns or any(fnmatch.fnmatch(test['name'], p) for p in patterns))
          and not any(fnmatch.fnmatch(test['name'], p) for p in skipped)]


def judge(name, status, stdout):
  """(cases, problem) of a program that ended with this status, negative for a signal."""
  cases, planned, reported = [], 0, 0
  for line in stdout.splitlines():
    if plan := PLAN.match(line):
      planned += int(plan[1])
    elif result := RESULT.match(line):
      bad, number, mark, case = result.groups()
      reported += number != '0'  # 0 is the set-up or tear-down of a group
      cases.append(Case(case, SKIPPED if mark == '# SKIP' else FAILED if bad else PASSED))

  failed = any(case.outcome == FAILED for case in cases)
  problem = ''
  if status < 0:
    problem = f'killed by {signal.Signals(-status).name}'
  elif reported < planned:
    problem = f'exit status {status}, and {planned - reported} of {planned} tests did not report'
  elif status == EXIT_SKIPPED and not failed:
    cases = cases or [Case(name, SKIPPED)]
  elif status != 0 and not failed:
    problem = f'exit status {status} although no test failed'
  elif not cases:
    cases = [Case(name, PASSED)]  # not a cmocka program: its status is its one result
  return cases, problem


def text_of(file):
  file.seek(0)
  return file.read().decode(errors='replace')


def run_program(test, wrapper, slowdown):
  limit = (test['timeout'] or 600) * slowdown
  env = {**SANITIZER_OPTIONS, **os.environ, **test['env'], 'CMOCKA_MESSAGE_OUTPUT': 'TAP',
         'KMCL_TEST_SLOWDOWN': str(max(1, round(slowdown)))}
  started = time.monotonic()
  late = ''
  # Files, because a pipe would stay open for as long as some process that the test left behind.
  with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    process = subprocess.Popen(wrapper + test['cmd'], cwd=test['workdir'], env=env,
                               stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                               start_new_session=True)
    try:
      process.wait(limit)
    except subprocess.TimeoutExpired:
      late = f'timed out after {limit:g} s'
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
    stdout, stderr = text_of(out), text_of(err)

  cases, problem = judge(test['name'], process.returncode, stdout)
  problem = late or problem
  if problem:
    cases.append(Case(test['name'], FAILED))
  clauses = [found.groups() for found in map(CLAUSES.match, stdout.splitlines()) if found]
  return Program(test['name'], cases, clauses, problem, stdout + stderr, time.monotonic() - started)


def show(program):
  """One line for a program, and its output when something in it failed or was skipped."""
  counts = ', '.join(f'{program.count(o)} {o}' for o in (PASSED, FAILED, SKIPPED)
                     if program.count(o))
  bad = program.count(FAILED)
  print(f'{"FAIL" if bad else "ok  "} {program.name}: {counts} ({program.seconds:.1f} s)'
        + (f': {program.problem}' if program.problem else ''))
  for case in program.cases:
    if case.outcome != PASSED and case.name != program.name:
      print(f'     {case.outcome}: {case.name}')
  if bad:
    lines = [line for line in program.output.splitlines()
             if not line.startswith(('ok ', 'clause-test: '))]
    print('\n'.join('  | ' + line for line in lines[-200:]))


def run(tests, wrapper=(), slowdown=1, jobs=JOBS):
  """Run the tests, by priority, several at a time where meson allows it; shows and returns the programs."""
  tests = sorted(tests, key=lambda test: -test['priority'])
  programs = []

  def run_some(some, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      for program in pool.map(lambda test: run_program(test, list(wrapper), slowdown), some):
        show(program)
        sys.stdout.flush()
        programs.append(program)

  run_some([test for test in tests if test['is_parallel']], jobs)
  run_some([test for test in tests if not test['is_parallel']], 1)
  return programs


def record(programs, path):
  Path(path).write_text(json.dumps([asdict(program) for program in programs]))


def recorded(path):
  programs = [Program(**fields) for fields in json.loads(Path(path).read_text())]
  for program in programs:
    program.cases = [Case(**case) for case in program.cases]
    program.clauses = [tuple(clause) for clause in program.clauses]
  return programs


def summary(programs):
  return ', '.join(f'{sum(p.count(o) for p in programs)} {o}' for o in (PASSED, FAILED, SKIPPED))
