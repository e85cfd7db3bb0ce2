#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Says for every clause of docs/clauses.md whether this very run, or one that was recorded, covers it.

A clause is covered when each test that names it, on each transport it declares, ran and passed.
Tests name their clauses by "clause-test:" lines (tests/conformance/conf.h and covers.h).
"""
import argparse
import re
import sys

import harness

ROW = re.compile(r'\| ([A-Z][A-Z0-9]*-\d+) \|')
RANGE = re.compile(r'([A-Z][A-Z0-9]*-)(\d+)(?:\.\.(\d+))?$')


def clause_ids(path):
  with open(path, encoding='utf-8') as text:
    ids = [row[1] for row in map(ROW.match, text) if row]
  twice = {clause for clause in ids if ids.count(clause) > 1}
  if twice or not ids:
    sys.exit(f'{path}: ' + (f'listed twice: {", ".join(sorted(twice))}' if twice else 'no clauses'))
  return ids


def expand(text):
  """The ids in "SSR-1, PSM-3..5"; what is not of that form comes back as it is, to be reported."""
  for word in text.replace(',', ' ').split():
    if found := RANGE.match(word):
      first, last = int(found[2]), int(found[3] or found[2])
      yield from (f'{found[1]}{number}' for number in range(first, last + 1))
    else:
      yield word


def claims(programs):
  """{clause: {(program, test): outcome}}; a test that gave no result counts as failed."""
  found = {}
  for program in programs:
    outcomes = {}
    for case in program.cases:  # of several tests of one name the worst counts
      worst = max(case.outcome, outcomes.get(case.name, case.outcome),
                  key=(harness.PASSED, harness.SKIPPED, harness.FAILED).index)
      outcomes[case.name] = worst
    for test, text in program.clauses:
      for clause in expand(text):
        outcome = outcomes.get(test, harness.FAILED)
        found.setdefault(clause, {})[program.name, test] = outcome
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('build')
  parser.add_argument('clauses')
  parser.add_argument('--require', default='', metavar='SSR,PSM|ALL',
                      help='fail when a clause of these groups is open')
  parser.add_argument('--recorded', metavar='FILE', help='the run that run_tests.py recorded there, instead of one now')
  args = parser.parse_args()

  ids = clause_ids(args.clauses)
  if args.recorded:
    programs = harness.recorded(args.recorded)
  else:
    programs = harness.run(harness.listed_tests(args.build))
  found = claims(programs)
  errors = [f'{program.name} failed' for program in programs if program.count(harness.FAILED)]
  errors += [f'{program} {test} names {clause}, which is not in {args.clauses}'
             for clause, tests in found.items() if clause not in ids for program, test in tests]

  covered = set()
  for clause in ids:
    tests = found.get(clause, {})
    short = [f'{name} {outcome}' for (_, name), outcome in tests.items() if outcome != harness.PASSED]
    if tests and not short:
      covered.add(clause)
      print(clause, 'covered', ' '.join(sorted({name.split('@')[0] for _, name in tests})))
    else:
      print(clause, 'open', *([f'({"; ".join(short)})'] if short else []))

  groups = {clause.split('-')[0] for clause in ids}
  required = groups if args.require == 'ALL' else set(filter(None, args.require.split(',')))
  for group in sorted(required - groups):
    errors.append(f'--require names {group}, which is no group of {args.clauses}')
  lacking = [c for c in ids if c.split('-')[0] in required and c not in covered]
  if lacking:
    errors.append(f'required but open: {" ".join(lacking)}')
  for error in errors:
    print('error:', error)
  print(f'clauses: {len(covered)} covered, {len(ids) - len(covered)} open')
  return bool(errors)


if __name__ == '__main__':
  sys.exit(main())
