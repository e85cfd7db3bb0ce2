#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program of docs/hostile.md is built against the shared libraries and run. Prints TAP."""
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

root, libraries, compiler = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:4]], shlex.split(sys.argv[4])
page = (root / 'docs' / 'hostile.md').read_text()
source, = re.findall(r'```c\n(.*?)```', page, re.S)
promised, = re.findall(r'It prints `(.*?)`', page)


def report(number, good, name):
  print(f'{"ok" if good else "not ok"} {number} - {name}')


print('1..3')
with tempfile.TemporaryDirectory() as directory:
  program = Path(directory) / 'attack'
  program.with_suffix('.c').write_text(source)
  built = subprocess.run(compiler + ['-Wall', '-Wextra', '-Werror', f'-I{root}/include', f'-I{root}/include/nt',
                                     str(program.with_suffix('.c')), '-o', str(program), *map(str, libraries),
                                     *(f'-Wl,-rpath,{library.parent}' for library in libraries)],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
  sys.stderr.write(built.stderr)
  report(1, built.returncode == 0, 'hostile_example_builds_without_warnings')
  said = ''
  if built.returncode == 0:
    run = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    said = run.stdout if run.returncode == 0 else run.stderr
  report(2, said == promised + '\n', 'hostile_example_prints_what_its_page_says')

# Every file of the table is in the page, and no other.
named = set(re.findall(r'\| `(case_\w+\.c)`', page))
report(3, named == {path.name for path in (root / 'tests' / 'hostile').glob('case_*.c')}, 'hostile_page_names_every_file')
