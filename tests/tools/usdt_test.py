#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The USDT probes of the built library are those of docs/tracing.md, with as many arguments. Prints TAP."""
import re
import subprocess
import sys
from pathlib import Path

LIBRARY, ROOT, BUILT_WITH_PROBES = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == 'yes'

if not BUILT_WITH_PROBES:
  print('1..0 # SKIP built without sys/sdt.h')
  sys.exit(77)

notes = subprocess.run(['readelf', '--notes', '--wide', LIBRARY], capture_output=True, text=True, check=True).stdout
found = {}
for provider, name, arguments in re.findall(r'Provider: (\S+)\s+Name: (\S+)\s.*?Arguments: ([^\n]*)', notes, re.S):
  if provider == 'openkmcl':
    found.setdefault(name, set()).add(len(arguments.split()))

documented = {}
for name, further in re.findall(r'^\| `(\w+)` \| [^|]* \| ([^|]*) \|$', (ROOT / 'docs/tracing.md').read_text(), re.M):
  documented[name] = {2 + len(re.sub(r'\([^)]*\)', '', further).split(','))}

print('1..1')
if found == documented and found:
  print('ok 1 - probes_are_those_of_the_documentation')
else:
  print(f'# found: {found}\n# documented: {documented}')
  print('not ok 1 - probes_are_those_of_the_documentation')
  sys.exit(1)
