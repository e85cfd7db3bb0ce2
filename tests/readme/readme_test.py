#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's programs are built and run as the README says. Prints TAP."""
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

root, library, compiler = Path(sys.argv[1]), Path(sys.argv[2]), shlex.split(sys.argv[3])
readme = (root / 'README.md').read_text()
sources = [source for source in re.findall(r'```c\n(.*?)```', readme, re.S) if 'int main(' in source]


def build(source, program):
  program.with_suffix('.c').write_text(source)
  done = subprocess.run(compiler + ['-Wall', '-Wextra', '-Werror', f'-I{root}/include', f'-I{root}/include/nt',
                                    str(program.with_suffix('.c')), '-o', str(program), str(library),
                                    f'-Wl,-rpath,{library.parent}'],
                        stdin=subprocess.DEVNULL, capture_output=True, text=True)
  sys.stderr.write(done.stderr)
  return done.returncode == 0


def report(number, good, name):
  print(f'{"ok" if good else "not ok"} {number} - {name}')


print('1..4')
with tempfile.TemporaryDirectory() as directory:
  pair, server = Path(directory) / 'pair', Path(directory) / 'server'
  built = build(sources[0], pair)
  report(1, built, 'readme_example_builds_without_warnings')
  said = ''
  if built:
    run = subprocess.run([pair], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    said = run.stdout if run.returncode == 0 else run.stderr
  report(2, said == 'HELLO, VMBUS\n', 'readme_example_prints_its_answer')
  built = build(sources[1], server)
  report(3, built, 'readme_server_builds_without_warnings')
  offered = False
  if built:
    bus = str(Path(directory) / 'bus')
    with subprocess.Popen([server, bus], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as serving:
      while not offered and serving.poll() is None:
        listed = subprocess.run([library.parent.parent / 'kmcl', 'ls', '--bus', bus], capture_output=True, text=True)
        offered = '9d2cf0a4-51f3-4bb6-a70d-030104010509' in listed.stdout
      serving.terminate()
  report(4, offered, 'readme_server_offers_its_device')
