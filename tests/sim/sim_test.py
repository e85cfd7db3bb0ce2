# SPDX-License-Identifier: MIT
"""The simulation finds nothing in the library, does much, repeats itself, and finds each fault that is planted."""
import contextlib
import io
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

SIM = sys.argv[1]
SEEDS, PLANT_SEEDS, TWICE_SEEDS = 300, 40, 30

# What is said about each; all seeds together may find it in several ways.
PLANTS = {
  'twice': 'a completion routine is called for a packet that is not on its way',
  'never': 'has not ended when VmbChannelDisable|called before a packet that was accepted has ended|waits for ever',
  'order': r'packet \d+ of \w+ arrives after its packet',
  'loss': r'is missing when its packet|is answered, and has not arrived',
  'bytes': 'arrives with other bytes',
  'id': r'is used again before it is answered|gets the answer to another one',
  'pin': '1 pins are left',
  'pool': 'pool memory is left',
  'callback': 'EvtChannelClosed is called in Started',
  'signal': 'waits for ever, and both ends run',
  'wake': 'nothing can end|the program has not ended',
}


def sim(*arguments):
  done = subprocess.run([SIM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  print(done.stdout)
  return done.returncode, done.stdout


def trace(output):
  return re.search(r'trace ([0-9a-f]{16})', output)[1]


def program_file(directory, text):
  path = Path(directory, 'program')
  path.write_text(text)
  return str(path)


def first_that_finds(plant):
  """(seed, its report, the command that repeats it)"""
  status, output = sim('--seeds', str(PLANT_SEEDS), '--jobs', '1', '--plant', plant)
  assert status == 1
  found = re.search(r'^seed (\d+)\n(found: .*\n)(?:.*\n)*?repeat it with: (.*)$', output, re.M)
  return found[1], found[2], found[3]


def seeds_find_nothing_and_much_happens():
  status, output = sim('--seeds', str(SEEDS))
  assert status == 0
  counts = re.findall(r'^ +(\d+) (.*)$', output, re.M)
  assert len(counts) >= 20
  assert [what for count, what in counts if int(count) == 0] == []


def seed_has_one_trace():
  assert sim('--seeds', str(TWICE_SEEDS), '--twice')[0] == 0


def difference_between_two_runs_is_found():
  status, output = sim('--seeds', '5', '--twice', '--plant', 'clock')
  assert status == 1 and 'two runs of the same program differ' in output


def planted_fault_is_found(plant, words):
  status, output = sim('--seeds', str(PLANT_SEEDS), '--plant', plant)
  assert status == 1
  assert re.search(words, output)


def printed_program_runs_as_its_seed():
  with tempfile.TemporaryDirectory() as directory:
    _, text = sim('--seed', '7', '--print')
    status, again = sim('--program', program_file(directory, text))
  assert status == 0
  assert trace(again) == trace(sim('--seed', '7')[1])


def printed_command_repeats_it():
  _, report, command = first_that_finds('never')
  done = subprocess.run(command.split(), stdout=subprocess.PIPE, text=True)
  assert done.returncode == 1 and report in done.stdout


def program_is_made_shorter():
  seed, report, _ = first_that_finds('bytes')
  _, text = sim('--seed', seed, '--print')
  status, short = sim('--seed', seed, '--plant', 'bytes', '--shrink')
  words = re.sub(r'\d+', 'N', report.strip())
  assert status == 1
  assert words in re.sub(r'\d+', 'N', short)
  assert len(short.splitlines()) < len(text.splitlines()) / 2
  with tempfile.TemporaryDirectory() as directory:
    status, again = sim('--program', program_file(directory, short), '--plant', 'bytes')
  assert status == 1 and words in re.sub(r'\d+', 'N', again)


def line_that_is_no_operation_is_refused():
  _, text = sim('--seed', '7', '--print')
  lines = text.splitlines()
  lines[5] = 'c0 dance 0 0 0'
  with tempfile.TemporaryDirectory() as directory:
    status, output = sim('--program', program_file(directory, '\n'.join(lines)))
  assert status == 2 and 'line 6' in output


def tests():
  for name, test in list(globals().items()):
    if callable(test) and getattr(test, '__module__', '') == __name__ and test.__code__.co_argcount == 0 \
        and name not in ('tests', 'main'):
      yield name, test
  for plant, words in PLANTS.items():
    yield f'planted_fault_is_found_{plant}', lambda plant=plant, words=words: planted_fault_is_found(plant, words)


def main():
  every = list(tests())
  failures = 0
  print(f'1..{len(every)}')
  for number, (name, test) in enumerate(every, 1):
    seen = io.StringIO()
    try:
      with contextlib.redirect_stdout(seen):
        test()
      print(f'ok {number} - {name}')
    except Exception:
      failures += 1
      print(f'not ok {number} - {name}')
      print(''.join(f'# {line}\n' for line in (seen.getvalue() + traceback.format_exc()).splitlines()), end='')
  return failures > 0


if __name__ == '__main__':
  sys.exit(main())
