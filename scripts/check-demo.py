#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the demonstration and fails unless its own figures say that all of it worked."""
import json
import subprocess
import sys

EXPECTED = {'digest_ok': True, 'timeouts_ok': True, 'kill_ok': True, 'packets_lost': 0}

run = subprocess.run([sys.argv[1], 'demo', '--json'], stdin=subprocess.DEVNULL,
                     stdout=subprocess.PIPE, text=True, timeout=300)
print(run.stdout, end='')
if run.returncode != 0:
  sys.exit(f'kmcl demo ended with status {run.returncode}')
figures = json.loads(run.stdout)
# `is` for the type too: 0 == False in Python, and a missing figure must not pass.
wrong = {key: figures.get(key) for key, value in EXPECTED.items()
         if type(figures.get(key)) is not type(value) or figures[key] != value}
if wrong:
  sys.exit(f'kmcl demo reports {wrong}, expected {EXPECTED}')
