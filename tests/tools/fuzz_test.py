#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmcl fuzz and a driver with planted bugs (drivers/planted.c). Prints TAP.

What is found is found by a number of cases, with a seed, never by the clock: a time limit only says what hangs.
"""
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

KMCL, PLANTED, DRIVERS = sys.argv[1:4]
SEEDS = Path(__file__).parent / 'planted'
LENGTH, OFFSET, TWICE, FORGOTTEN, LEAK, ENDLESS = (1 << bit for bit in range(6))
PATIENCE = 600  # seconds; only to end a test that hangs
SLOW = ('--timeout', '60')  # what is not about hangs

MAGIC = '6e6f7465'
HUGE_NOTE = f'packet 0 ask wait {MAGIC},01000000,00000000,ffffffff\n'
NO_NOTE = f'packet 0 ask wait {MAGIC},02000000,00000000,00000000\n'
NO_END = f'packet 0 ask wait {MAGIC},03000000,00000000,ffffffff\n'
TWICE_DONE = f'packet 0 ask wait {MAGIC},03000000,00*8\npacket 0 ask wait {MAGIC},05000000,00*8\n'


class Skip(Exception):
  pass


class Result:
  def __init__(self, process):
    self.status, self.text = process.returncode, process.stdout

  def __repr__(self):
    return f'status {self.status}:\n{self.text}'


def fuzz(*words):
  return Result(subprocess.run([KMCL, 'fuzz', *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors='replace', timeout=PATIENCE))


@contextmanager
def place(seeded=True):
  with tempfile.TemporaryDirectory() as directory:
    out = Path(directory, 'out')
    if seeded:
      shutil.copytree(SEEDS, out / 'corpus')
    yield out


def planted(out, bugs, *words, driver='planted'):
  return fuzz(f'{PLANTED}/{driver}.so', '--set', f'Bugs={bugs}', '--out', out, '--seed', 1, *words)


def findings(out):
  return sorted(path.name for path in out.glob('*.case'))


def kind(path):
  return path.read_text().split(':')[0].removeprefix('# ')


def replay(out, text, bugs, *words, driver='planted'):
  out.mkdir(exist_ok=True)
  path = out / 'written.case'
  path.write_text(text)
  return planted(out, bugs, '--replay', path, *words, driver=driver)


def three_bugs_are_found_shortened_and_replayed():
  with place() as out:
    result = planted(out, LENGTH | OFFSET | TWICE, '--findings', 3, '--runs', 4000, '--tries', 40, *SLOW)
    assert result.status == 1, result
    names = findings(out)
    assert len(names) == 3, (names, result)
    kinds = {kind(out / name) for name in names}
    assert 'misuse' in kinds and kinds <= {'crash', 'sanitizer', 'misuse', 'outside'}, (kinds, result)
    for name in names:
      path = out / name
      steps = [line for line in path.read_text().splitlines() if line.startswith('packet')]
      assert len(steps) <= 3, path.read_text()
      again = planted(out, LENGTH | OFFSET | TWICE, '--replay', path, *SLOW)
      assert again.status == 1 and again.text.startswith(kind(path)), (name, again)
      # With the bugs repaired nothing happens.
      assert planted(out, 0, '--replay', path, *SLOW).status == 0, name
      # What is said to repeat it does.
      command = path.read_text().splitlines()[1].removeprefix('# kmcl fuzz ')
      assert subprocess.run(f'{KMCL} fuzz {command}', shell=True, stdout=subprocess.DEVNULL, check=False).returncode == 1


def report_names_the_driver_s_function_and_the_runtime_s_complaint():
  with place() as out:
    result = replay(out, TWICE_DONE, TWICE, *SLOW)
    assert result.status == 1 and 'completed twice' in result.text and 'NotesProcessPacket' in result.text, result


def bug_is_found_without_any_seed():
  with place(seeded=False) as out:
    result = planted(out, LENGTH, '--runs', 8000, '--tries', 10, *SLOW)
    assert result.status == 1 and len(findings(out)) == 1, result
    assert len(list((out / 'corpus').iterdir())) > 1, result


def driver_that_is_not_instrumented_is_fuzzed_blindly_and_says_so():
  with place() as out:
    result = planted(out, TWICE, '--runs', 4000, '--tries', 10, *SLOW, driver='planted_plain')
    assert result.status == 1 and 'is not instrumented' in result.text, result
    assert kind(out / findings(out)[0]) == 'misuse', result


def packet_that_is_never_completed_is_a_hang():
  with place() as out:
    result = planted(out, FORGOTTEN, '--timeout', 3, '--tries', 3, '--runs', 2000)
    assert result.status == 1 and findings(out)[0].startswith('hang'), result
    result = replay(out, NO_NOTE, FORGOTTEN, '--timeout', 3)
    assert result.status == 1 and 'a packet is not completed' in result.text, result
    assert replay(out, NO_NOTE, 0, *SLOW).status == 0


def endless_loop_is_a_hang_with_a_stack():
  with place() as out:
    result = replay(out, NO_END, ENDLESS, '--timeout', 3)
    assert result.status == 1 and 'a packet is not completed' in result.text and 'NotesProcessPacket' in result.text, result


def memory_that_is_left_is_found_when_the_driver_is_unloaded():
  with place() as out:
    result = planted(out, LEAK, '--restart', 50, '--runs', 2000, '--tries', 30, *SLOW)
    assert result.status == 1 and findings(out)[0].startswith('leak'), result
    text = (out / findings(out)[0]).read_text()
    assert len([line for line in text.splitlines() if line.startswith('packet')]) >= 2, text


def good_drivers_survive():
  with place() as out:
    result = planted(out, 0, '--runs', 300, '--restart', 100, *SLOW)
    assert result.status == 0 and not findings(out), result
    result = fuzz(f'{DRIVERS}/echo.so', '--out', out, '--seed', 2, '--runs', 300, *SLOW)
    assert result.status == 0 and not findings(out), result


def sanitizer_s_runtime_comes_with_the_driver():
  if not Path(PLANTED, 'planted_asan.so').exists():
    raise Skip  # this build is under a sanitizer as a whole
  with place() as out:
    result = replay(out, HUGE_NOTE, LENGTH, *SLOW, driver='planted_asan')
    if 'cannot open shared object' in result.text:
      raise Skip  # clang's shared runtime lies where only clang looks
    assert result.status == 1 and 'AddressSanitizer' in result.text and result.text.startswith('sanitizer'), result


def cases_are_checked_line_by_line():
  with place() as out:
    for text, hint in (('packet 0 ask\n', 'line 1: expected `wait` or `go`'), ('\nrange 0 00\n', 'line 2: a range belongs to'),
                       ('packet 0 ask wait 0\n', 'pairs of hex digits'), ('send\n', 'expected packet, range'),
                       ('packet 0 ask go 00*99999999999\n', 'hex digits'), ('reopen now\n', 'behind the step'),
                       ('packet 0 ask go -\nrange 4096 00\n', 'line 2: expected an offset below 4096')):
      result = replay(out, text, 0)
      assert result.status == 2 and hint in result.text, (text, result)
    result = replay(out, f'# nothing\n\nanswer 01,02*3,ff\nreopen\nPACKET'.replace('PACKET', HUGE_NOTE), 0, *SLOW)
    assert result.status == 0 and 'nothing happened: 3 steps, 1 packets' in result.text, result


def who_cannot_begin_says_why():
  with place() as out:
    for words, hint in (((), 'expected one driver'), (('nothing.so',), 'no such file'),
                        ((f'{DRIVERS}/echo.so', '--runs', 'many'), '--runs expects a number'),
                        ((f'{DRIVERS}/echo.so', '--replay', 'nothing.case'), 'cannot read nothing.case'),
                        ((f'{DRIVERS}/echo.so', '--dict', '/dev/null', '--set', 'x'), 'NAME=VALUE'),
                        ((f'{DRIVERS}/storvsp.so',), '--set'), ((f'{PLANTED}/planted.so', '--out', '/dev/null/x'), 'directory')):
      result = fuzz(*words, *(() if '--out' in words else ('--out', out)))
      assert result.status == 2 and hint in result.text, (words, result)
    dictionary = Path(out.parent, 'words')
    dictionary.write_text('# words\nmagic="note\\x01"\n"no end\n')
    result = fuzz(f'{DRIVERS}/echo.so', '--dict', dictionary)
    assert result.status == 2 and 'line 3: expected a word' in result.text, result


TESTS = [three_bugs_are_found_shortened_and_replayed, report_names_the_driver_s_function_and_the_runtime_s_complaint,
         bug_is_found_without_any_seed, driver_that_is_not_instrumented_is_fuzzed_blindly_and_says_so,
         packet_that_is_never_completed_is_a_hang, endless_loop_is_a_hang_with_a_stack,
         memory_that_is_left_is_found_when_the_driver_is_unloaded, good_drivers_survive,
         sanitizer_s_runtime_comes_with_the_driver, cases_are_checked_line_by_line, who_cannot_begin_says_why]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Skip:
    print(f'ok {number} # SKIP {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
