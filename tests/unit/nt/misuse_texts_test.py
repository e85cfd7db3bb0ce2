#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every report of misuse in src/nt and src/wdf begins with the function that the driver called and, behind a
semicolon, says what to do (KE-5)."""
import pathlib
import re
import sys

CALL = re.compile(r'\bnt_misuse\(\s*((?:"(?:[^"\\\\]|\\\\.)*"\s*)+)')
LITERAL = re.compile(r'"((?:[^"\\\\]|\\\\.)*)"')
# A documented function, or a parameter that is its name.
FUNCTION = re.compile(r'(%s|__try|[A-Z][A-Za-z0-9_]+)(:| )')

bad, seen = [], 0
for path in sorted(path for layer in ('nt', 'wdf') for path in pathlib.Path(sys.argv[1], 'src', layer).glob('*.c')):
  for call in CALL.finditer(path.read_text(encoding='utf-8')):
    text = ''.join(LITERAL.findall(call[1]))
    seen += 1
    if not FUNCTION.match(text) or '; ' not in text:
      bad.append(f'{path.name}: "{text}"')
for line in bad:
  print('no function or no advice:', line)
print(seen, 'messages')
sys.exit(bool(bad) or seen < 30)
