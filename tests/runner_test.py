# SPDX-License-Identifier: MIT
"""Tests of harness.py and run_conformance.py: what a test program says and does, and what counts."""
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import harness
import run_conformance
from harness import FAILED, PASSED, SKIPPED, Case


def outcomes(status, stdout):
  cases, problem = harness.judge('prog', status, stdout)
  return [case.outcome for case in cases], problem


def results_are_counted_per_test():
  text = '1..3\nok 1 - a\nnot ok 2 - b\n# 0x1 != 0x2\nnot ok 3 # SKIP c\n# not ok - group\n'
  assert outcomes(1, text) == ([PASSED, FAILED, SKIPPED], '')


def skip_is_read_in_both_spellings():
  assert outcomes(0, '1..1\nok 1 # SKIP c\n') == ([SKIPPED], '')


def several_groups_add_up():
  assert outcomes(0, '1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\n') == ([PASSED] * 3, '')


def group_teardown_failure_is_a_failure():
  assert outcomes(0, '1..1\nok 1 - a\nnot ok 0 - g [  FAILED  ] GROUP TEARDOWN\n')[0] == [PASSED, FAILED]


def crash_is_a_problem():
  assert outcomes(-11, '1..2\nok 1 - a\n') == ([PASSED], 'killed by SIGSEGV')


def early_clean_exit_is_a_problem():
  assert outcomes(0, '1..2\nok 1 - a\n')[1] == 'exit status 0, and 1 of 2 tests did not report'


def failure_after_the_tests_is_a_problem():
  assert outcomes(99, '1..1\nok 1 - a\n')[1] == 'exit status 99 although no test failed'


def status_77_is_a_skip():
  assert outcomes(77, '') == ([SKIPPED], '')


def status_77_hides_no_failure():
  assert outcomes(77, '1..1\nnot ok 1 - a\n') == ([FAILED], '')


def plain_program_is_one_test():
  assert outcomes(0, 'hello\n') == ([PASSED], '')
  assert outcomes(1, 'hello\n')[1] != ''


def run_script(script, timeout=60):
  test = {'name': 'prog', 'cmd': ['/bin/sh', '-c', script], 'env': {}, 'workdir': '/', 'timeout': timeout}
  return harness.run_program(test, [], 1)


def timed_out_program_fails_under_its_name():
  program = run_script('echo 1..1; sleep 600', 0.2)
  assert program.cases == [Case('prog', FAILED)] and 'timed out' in program.problem


def process_left_behind_does_not_hold_up_the_run():
  program = run_script('setsid sleep 5 & echo 1..1; echo ok 1 - a', 4)
  assert program.cases == [Case('a', PASSED)] and program.problem == ''


def program_is_told_to_print_tap():
  assert run_script('echo "clause-test: t $CMOCKA_MESSAGE_OUTPUT"').clauses == [('t', 'TAP')]


def what_has_priority_begins_first():
  with tempfile.TemporaryDirectory() as top:
    tests = [{'name': name, 'cmd': ['/bin/sh', '-c', f'echo {name} >>began'], 'env': {}, 'workdir': top, 'timeout': 60,
              'is_parallel': True, 'priority': priority} for name, priority in (('a', 0), ('b', 2), ('c', 0), ('d', 1))]
    harness.run(tests, jobs=1)
    assert Path(top, 'began').read_text().split() == ['b', 'd', 'a', 'c']


def moved_build_directory_is_found():
  with tempfile.TemporaryDirectory() as top:
    info = Path(top, 'build', 'meson-info')
    info.mkdir(parents=True)
    (info / 'meson-info.json').write_text(json.dumps({'directories': {'source': '/gone', 'build': '/gone/build'}}))
    (info / 'intro-tests.json').write_text(json.dumps([
      {'name': 't', 'cmd': ['/gone/build/t', '/gone/data', '/other'], 'env': {'D': '/gone/build'},
       'workdir': None, 'suite': ['project:unit']}]))
    test, = harness.listed_tests(f'{top}/build')
    assert test['cmd'] == [f'{top}/build/t', f'{top}/data', '/other']
    assert test['workdir'] == test['env']['D'] == f'{top}/build'
    assert test['suite'] == ['unit']


def clause_ranges_expand():
  assert list(run_conformance.expand('SSR-1, PSM-3..5,V2-1')) == ['SSR-1', 'PSM-3', 'PSM-4', 'PSM-5', 'V2-1']
  assert list(run_conformance.expand('nonsense')) == ['nonsense']


def run_on_fake_build(script, runner, *options, files=()):
  """(status, lines) of a runner over a build directory whose one test program is a shell script."""
  with tempfile.TemporaryDirectory() as top:
    info = Path(top, 'build', 'meson-info')
    info.mkdir(parents=True)
    (info / 'meson-info.json').write_text(
      json.dumps({'directories': {'source': top, 'build': f'{top}/build'}}))
    (info / 'intro-tests.json').write_text(json.dumps([
      {'name': 'prog', 'cmd': ['/bin/sh', '-c', script], 'env': {}, 'workdir': None,
       'suite': ['project:unit'], 'timeout': 60, 'is_parallel': True, 'priority': 0}]))
    for name, text in files:
      Path(top, name).write_text(text)
    done = subprocess.run([sys.executable, '-B', Path(__file__).with_name(runner), 'build', *options],
                          cwd=top, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def counts_are_the_last_line():
  status, lines = run_on_fake_build('echo 1..2; echo ok 1 - a; echo "ok 2 # SKIP b"', 'run_tests.py')
  assert status == 0 and lines[-1] == '1 passed, 0 failed, 1 skipped'


def failed_test_is_shown_counted_and_in_the_status():
  script = 'echo 1..2; echo ok 1 - a; echo not ok 2 - b; echo "# the reason"; exit 1'
  status, lines = run_on_fake_build(script, 'run_tests.py')
  assert status == 1 and lines[-1] == '1 passed, 1 failed, 0 skipped'
  assert any('the reason' in line for line in lines)


def nothing_to_run_is_a_failure():
  assert run_on_fake_build('exit 0', 'run_tests.py', '--suite', 'unit')[0] == 0
  assert run_on_fake_build('exit 0', 'run_tests.py', '--suite', 'other')[0] == 1


def suites_can_be_skipped():
  assert run_on_fake_build('exit 0', 'run_tests.py', '--skip-suite', 'other')[0] == 0
  assert run_on_fake_build('exit 0', 'run_tests.py', '--skip-suite', 'unit')[0] == 1


def recorded_run_says_what_the_run_said():
  program = run_script('echo clause-test: t@x AA-1; echo 1..2; echo ok 1 - t@x; echo not ok 2 - u; exit 1')
  with tempfile.TemporaryDirectory() as top:
    harness.record([program], f'{top}/results')
    assert harness.recorded(f'{top}/results') == [program]


def conformance_reads_a_recorded_run():
  program = run_script('echo clause-test: t@x AA-1; echo 1..1; echo ok 1 - t@x')
  with tempfile.TemporaryDirectory() as top:
    harness.record([program], f'{top}/results')
    status, lines = conformance('exit 1', '--recorded', f'{top}/results')
  assert status == 0 and lines == ['AA-1 covered t', 'AA-2 open', 'BB-1 open', 'clauses: 1 covered, 2 open']


def conformance(script, *options, listed='AA-1 AA-2 BB-1'):
  clauses = ''.join(f'| {clause} | text |\n' for clause in listed.split())
  return run_on_fake_build(script, 'run_conformance.py', 'clauses.md', *options,
                           files=[('clauses.md', clauses)])


TWO_RUNS = 'echo "clause-test: t@x AA-1"; echo "clause-test: t@y AA-1..2"; echo 1..2; echo ok 1 - t@x;'


def clause_is_covered_when_all_its_runs_pass():
  status, lines = conformance(TWO_RUNS + 'echo ok 2 - t@y')
  assert status == 0
  assert lines[-4:] == ['AA-1 covered t', 'AA-2 covered t', 'BB-1 open', 'clauses: 2 covered, 1 open']


def clause_is_open_when_one_run_fails():
  status, lines = conformance(TWO_RUNS + 'echo not ok 2 - t@y; exit 1')
  assert status == 1 and 'AA-1 open (t@y failed)' in lines


def clause_is_open_when_one_run_is_skipped():
  status, lines = conformance(TWO_RUNS + 'echo "not ok 2 # SKIP t@y"')
  assert status == 0 and 'AA-1 open (t@y skipped)' in lines


def clause_is_open_when_the_program_dies_first():
  status, lines = conformance(TWO_RUNS + 'kill -9 $$')
  assert status == 1 and 'AA-1 open (t@y failed)' in lines


def unknown_clause_is_an_error():
  status, lines = conformance('echo "clause-test: t CC-9"; echo 1..1; echo ok 1 - t')
  assert status == 1 and any('CC-9' in line for line in lines)


def required_group_must_be_covered():
  script = TWO_RUNS + 'echo ok 2 - t@y'
  assert conformance(script, '--require', 'AA')[0] == 0
  assert conformance(script, '--require', 'AA,BB')[0] == 1
  assert conformance(script, '--require', 'ZZ')[0] == 1


def clause_listed_twice_is_an_error():
  assert conformance('exit 0', listed='AA-1 AA-1')[0] != 0


TESTS = [test for name, test in list(globals().items())
         if callable(test) and getattr(test, '__module__', '') == __name__ and test.__code__.co_argcount == 0]


def main():
  print(f'1..{len(TESTS)}')
  failures = 0
  for number, test in enumerate(TESTS, 1):
    seen = io.StringIO()
    try:
      with contextlib.redirect_stdout(seen):
        test()
      print(f'ok {number} - {test.__name__}')
    except Exception:
      failures += 1
      print(f'not ok {number} - {test.__name__}')
      print(''.join(f'# {line}\n' for line in traceback.format_exc().splitlines()), end='')
  return failures > 0


if __name__ == '__main__':
  sys.exit(main())
