#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's example is built and run as the README says. Prints TAP."""
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

root, library, compiler = Path(sys.argv[1]), Path(sys.argv[2]), shlex.split(sys.argv[3])
readme = (root / 'README.md').read_text()
source = re.search(r'```c\n(.*?)```', readme, re.S).group(1)

print('1..2')
with tempfile.TemporaryDirectory() as directory:
  program = Path(directory) / 'example'
  program.with_suffix('.c').write_text(source)
  build = subprocess.run(compiler + ['-Wall', '-Wextra', '-Werror', f'-I{root}/include', f'-I{root}/include/nt',
                                     str(program.with_suffix('.c')), '-o', str(program), str(library),
                                     f'-Wl,-rpath,{library.parent}'],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
  sys.stderr.write(build.stderr)
  print(f'{"ok" if build.returncode == 0 else "not ok"} 1 - readme_example_builds_without_warnings')
  said = ''
  if build.returncode == 0:
    run = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    said = run.stdout if run.returncode == 0 else run.stderr
  print(f'{"ok" if said == "HELLO, VMBUS" + chr(10) else "not ok"} 2 - readme_example_prints_its_answer')
