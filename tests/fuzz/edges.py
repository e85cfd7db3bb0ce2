# SPDX-License-Identifier: MIT
"""Edges of a target's sources: the entry of each function, and both outcomes of each condition.

clang counts them in the run itself, in the program that is fuzzed. A function that several files have
(from a header) and a condition that a macro repeats count once. A compiler's constant is no condition.
"""
import json
import os
import subprocess

import targets

TOOLS = ('llvm-profdata', 'llvm-cov')


def exported(target, profile):
  """What llvm-cov knows about the functions of the program."""
  merged = profile.with_suffix('.profdata')
  subprocess.run(['llvm-profdata', 'merge', '-sparse', profile, '-o', merged], check=True)
  out = subprocess.run(['llvm-cov', 'export', '-skip-expansions', f'-instr-profile={merged}', target.program],
    check=True, stdout=subprocess.PIPE).stdout
  return json.loads(out)['data'][0]['functions']


def plain(name):
  """A function's name without the file that clang puts before a static one's."""
  return name.rsplit(':', 1)[-1]


def count(target, profile):
  """(edges reached, edges missed as text)"""
  counts = {}  # (path, line, column, what): how often
  unreached = set()
  for function in exported(target, profile):
    name = plain(function['name'])
    paths = [os.path.relpath(path, targets.SOURCE) for path in function['filenames']]
    if not target.measures(paths[0]):
      continue
    if name in target.unreached:
      unreached.add(name)
      continue
    line, column = function['regions'][0][:2]
    found = [((paths[0], line, column, f'{name} is never called'), function['count'])]
    for line, column, _, _, true, false, file, *_ in function['branches']:
      if not target.measures(paths[file]):
        continue  # a macro of somebody else
      found += [((paths[file], line, column, 'is never true'), true), ((paths[file], line, column, 'is never false'), false)]
    for edge, times in found:
      counts[edge] = counts.get(edge, 0) + times
  if not counts:
    raise SystemExit(f'{target.name}: nothing is measured; correct "measured" in tests/fuzz/meson.build')
  if unknown := set(target.unreached) - unreached:
    raise SystemExit(f'{target.name}: tests/fuzz/meson.build leaves out functions that are not there: {" ".join(sorted(unknown))}')
  missed = ['{}:{}:{}: {}'.format(*edge) for edge, times in sorted(counts.items()) if times == 0]
  return len(counts) - len(missed), missed
