#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the tests of a build directory; the last line counts the single tests, not the programs."""
import argparse
import shlex
import sys

import harness

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('build')
parser.add_argument('--suite', action='append', default=[], help='only this suite of meson')
parser.add_argument('--match', action='append', default=[], metavar='GLOB', help='only programs of this name')
parser.add_argument('--skip', action='append', default=[], metavar='GLOB', help='but not these')
parser.add_argument('--skip-suite', action='append', default=[], help='nor these')
parser.add_argument('--record', metavar='FILE', help='keep the results, for run_conformance.py')
parser.add_argument('--wrapper', default='', help='command that runs the programs')
parser.add_argument('--slowdown', type=float, default=1, help='factor on every time limit')
parser.add_argument('-j', '--jobs', type=int, default=harness.JOBS)
args = parser.parse_args()

tests = harness.select(harness.listed_tests(args.build), args.suite, args.match, args.skip, args.skip_suite)
programs = harness.run(tests, shlex.split(args.wrapper), args.slowdown, args.jobs)
if not programs:
  print('no test program was selected', file=sys.stderr)
if args.record:
  harness.record(programs, args.record)
print(harness.summary(programs))
sys.exit(not programs or any(program.count(harness.FAILED) for program in programs))
