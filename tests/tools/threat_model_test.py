#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every test that docs/threat-model.md names exists, and every class of faults there names one. Prints TAP."""
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1])
DOC = (ROOT / 'docs/threat-model.md').read_text()
HEADING = '## Known classes of faults'
# Registered, and not only mentioned: in a table of tests, in C or in Python.
REGISTERED = r'\b[A-Z][A-Z_]*\(\s*{0}\b|cmocka_unit_test\w*\(\s*{0}\b|^def {0}\(\)'


def rows():
  table = DOC[DOC.index(HEADING):].splitlines()
  return [line.strip('|').split('|') for line in table if line.startswith('| ')][2:]


def sources(program):
  found = [path for ext in ('c', 'py') for path in ROOT.glob(f'tests/**/{program}.{ext}')]
  assert found, f'there is no program {program}.c or .py below tests/'
  return found


def every_class_names_a_test():
  assert len(rows()) >= 38, len(rows())
  for row in rows():
    assert len(row) == 4 and re.search(r'`\w+/\w+`', row[3]) and row[2].strip(), row


def every_test_that_is_named_exists():
  names = re.findall(r'`(\w+)/(\w+)`', ''.join(row[3] for row in rows()))
  missing = []
  for program, test in names:
    pattern = re.compile(REGISTERED.format(re.escape(test)), re.MULTILINE)
    if not any(pattern.search(path.read_text()) for path in sources(program)):
      missing.append(f'{program}/{test}')
  assert not missing, f'docs/threat-model.md names tests that are not there: {", ".join(missing)}'


TESTS = [every_class_names_a_test, every_test_that_is_named_exists]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
