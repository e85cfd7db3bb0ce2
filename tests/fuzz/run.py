#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs fuzzers of a build directory that was configured with -Dfuzz=true, and counts the edges that they reach.

Without --keep every target starts from its seeds (make fuzz-smoke). With it, what is found stays in
corpus/NAME of the build directory, and the next run goes on from there (make fuzz). A target passes if
nothing was found and it reached 95 % of the edges of the sources that its row measures.
"""
import argparse
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import edges
import seeds
import targets

REQUIRED = 95  # percent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('build')
parser.add_argument('--match', action='append', default=[], metavar='GLOB', help='only these targets')
parser.add_argument('--time', type=int, default=60, metavar='S', help='seconds for each target; 0 runs the inputs that are there')
parser.add_argument('--seed', type=int, default=0, help='of the mutations; one is chosen and printed')
parser.add_argument('-j', '--jobs', type=int, default=2, help='targets at a time')
parser.add_argument('--keep', action='store_true', help='use and keep corpus/NAME of the build directory')
parser.add_argument('--missed', action='store_true', help='list the edges that were not reached')
parser.add_argument('--write-seeds', action='store_true',
  help='write the smallest set of inputs that reaches the same edges to the seeds in the tree')
args = parser.parse_args()
build = Path(args.build).resolve()
seed = args.seed or random.randrange(1, 2**31)


def environment(profile):
  return os.environ | {'LLVM_PROFILE_FILE': str(profile)}


def shrink(target, corpus, temporary):
  """The inputs of a folder that are needed to reach the same edges."""
  smallest = Path(temporary, 'smallest')
  smallest.mkdir()
  subprocess.run([target.program, '-merge=1', '-use_counters=0', f'-max_len={target.max_len}', smallest, *corpus],
    env=environment(Path(temporary, 'merge.profraw')), check=True, stderr=subprocess.DEVNULL)
  return [path.read_bytes() for path in smallest.iterdir()]


def shown(path):
  """A path as somebody types it here."""
  return os.path.relpath(path)


def finding(target, log, findings):
  """The line for a run that ended early."""
  named = re.search(r'Test unit written to (\S+)', log)
  what = re.search(r'^(?:SUMMARY: \w+: (.*)|.*does not hold: .*|==\d+==\s*ERROR: (.*))$', log, re.M)
  print(log, file=sys.stderr)
  then = f'replay: {shown(target.program)} {shown(named.group(1))}' if named else f'read {shown(findings)}/log'
  return f'{target.name}: FOUND {what.group(0) if what else "the program ended"}; {then}'


def run(target):
  """(passed, lines) of one target."""
  findings = build / 'findings' / target.name
  findings.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as temporary:
    profile, given, new = (Path(temporary, name) for name in ('profraw', 'seeds', 'new'))
    if args.keep:
      new = build / 'corpus' / target.name
    for folder in (given, new):
      folder.mkdir(parents=True, exist_ok=True)
    seeds.unpack(target.seeds, given)
    command = [target.program, f'-max_len={target.max_len}', f'-seed={seed}', f'-artifact_prefix={findings}/',
      '-print_final_stats=1', '-timeout=120', '-rss_limit_mb=1500', '-reload=0']
    command += [f'-max_total_time={args.time}'] if args.time else ['-runs=0']
    if target.dictionary.exists():
      command.append(f'-dict={target.dictionary}')
    ran = subprocess.run([*command, new, given], env=environment(profile), stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors='replace', cwd=temporary)
    (findings / 'log').write_text(ran.stderr)
    if ran.returncode != 0:
      return False, [finding(target, ran.stderr, findings)]
    executions = int(re.search(r'stat::number_of_executed_units:\s*(\d+)', ran.stderr).group(1))
    reached, missed = edges.count(target, profile)
    total = reached + len(missed)
    percent = 100 * reached / total
    enough = percent >= REQUIRED
    lines = [f'{target.name}: {executions} executions, {reached} of {total} edges ({percent:.1f} %)'
      + ('' if enough else f': FEWER than {REQUIRED} %; add seeds (docs/fuzzing.md)')]
    if args.missed or not enough:
      some = missed if args.missed else missed[:10]
      lines += [f'  {edge}' for edge in some] + ['  ... (--missed lists all)'] * (len(some) < len(missed))
    if args.write_seeds:
      seeds.pack(shrink(target, [given, new], temporary), target.seeds)
    return enough, lines


chosen = targets.read(build, args.match)
if not chosen:
  sys.exit(f'{sys.argv[0]}: no such target; there are: {" ".join(target.name for target in targets.read(build))}')
for tool in edges.TOOLS:
  if shutil.which(tool) is None:
    sys.exit(f'{sys.argv[0]}: {tool} is missing; run scripts/install-deps.sh fuzz')

print(f'mutations with --seed {seed}', flush=True)
passed = 0
with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
  for done in concurrent.futures.as_completed([pool.submit(run, target) for target in chosen]):
    good, lines = done.result()
    passed += good
    print('\n'.join(lines), flush=True)
print(f'fuzz: {passed} passed, {len(chosen) - passed} failed')
sys.exit(passed != len(chosen))
