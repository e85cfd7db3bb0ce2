#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our headers against those of mingw-w64 (RT-9, RT-10, RT-13, RT-17, MM-1, MM-2).

The public header compiles with mingw-w64's wdm.h and ntddk.h, as C and as C++, and so do the sample drivers that need
nothing else. All four, ours and mingw-w64's in both languages, agree on sizes, offsets and values: of every structure
and constant of the public header, of every status, and of what layout.txt lists.

Exits 77 without the cross compiler, unless KMCL_REQUIRE_MINGW=1 says that it must be there.

  layout_test.py <source root>
"""
import os
import pathlib
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1])
HERE = ROOT / 'tests/unit/nt'
PUBLIC = ROOT / 'include/vmbuskernelmodeclientlibapi.h'
OURS = ROOT / 'include/nt'
CROSS = 'x86_64-w64-mingw32-'
DDK = pathlib.Path('/usr/share/mingw-w64/include/ddk')
WINDOWS = ['-D_WIN32_WINNT=0x0A00', '-DNTDDI_VERSION=0x0A000000', '-D_AMD64_']
NAME_BYTES = 120

# What a driver for Windows may include; the drivers of wdf.h have no counterpart in mingw-w64.
WINDOWS_HEADERS = {'wdm.h', 'ntddk.h', 'ntdef.h', 'ntstatus.h', 'ntstrsafe.h', 'ntintsafe.h', 'initguid.h',
                   'guiddef.h', 'vmbuskernelmodeclientlibapi.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'string.h'}

# For C++. mingw-w64's intrinsics and its wdm.h both define two functions, which C++ refuses, and it has min and max,
# which Windows defines for every language, in C only.
CXX_FIRST = '''#include <intrin.h>
#define InterlockedBitTestAndSet ddk_InterlockedBitTestAndSet
#define InterlockedBitTestAndReset ddk_InterlockedBitTestAndReset
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
'''

LANGUAGES = {'C': ('gcc', ['-std=gnu11', '-x', 'c']),
             'C++': ('g++', ['-std=gnu++17', '-x', 'c++', '-Wno-invalid-offsetof'])}


def run(*command):
  done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
  if done.returncode != 0:
    sys.exit(f'{" ".join(map(str, command))}\n{done.stdout}')
  return done.stdout


def without_comments(path):
  """The text of a header with its macros, as the compiler sees it."""
  return run('gcc', '-w', '-fpreprocessed', '-dD', '-E', '-P', path)


# ---- what there is to compare -----------------------------------------------------------------------------------------

def public_structures():
  """{name: fields} of every structure that the public header itself defines."""
  text = run('gcc', '-std=gnu11', '-fshort-wchar', '-E', f'-I{OURS}', PUBLIC)
  own, inside = [], False
  for line in text.splitlines():
    if marker := re.match(r'# \d+ "(.*?)"', line):
      inside = os.path.basename(marker[1]) == PUBLIC.name
    elif inside:
      own.append(line)
  found = {}
  for body, name in re.findall(r'typedef struct _\w+ \{(.*?)\} (\w+)', ' '.join(own), re.S):
    declared = (field.split() for field in body.split(';') if field.strip())
    found[name] = [words[-1].lstrip('*') for words in declared if words[-1] != 'unused']
  return found


def public_constants():
  numbers = re.findall(r'^#define (\w+) (?:0[xX])?[0-9a-fA-F]+[uU]?$', without_comments(PUBLIC), re.M)
  aliases = re.findall(r'^#define (KMCL_\w+_LATEST|VMBUS_\w+) [A-Z]\w+$', without_comments(PUBLIC), re.M)
  return sorted(set(numbers) | set(aliases))


def rows():
  """(name, C expression) of everything."""
  def size(name):
    yield f'sizeof({name})', f'sizeof({name})'

  def fields(name, members):
    for member in members:
      yield f'offset of {name}.{member}', f'offsetof({name}, {member})'
      yield f'size of {name}.{member}', f'sizeof((({name} *)0)->{member})'

  def value(text):
    yield text, f'(unsigned long long)(long long)({text})'

  structures = public_structures()
  constants = public_constants()
  if len(structures) < 4 or len(constants) < 20:
    sys.exit(f'only {len(structures)} structures and {len(constants)} constants found in {PUBLIC.name}')
  for name, members in structures.items():
    yield from size(name)
    yield from fields(name, members)
  for handle in re.findall(r'^DECLARE_HANDLE\((\w+)\)', without_comments(PUBLIC), re.M):
    yield from size(handle)
  for name in constants:
    yield from value(name)
  for name in re.findall(r'^#define (STATUS_\w+)', (OURS / 'ntstatus.h').read_text(), re.M):
    yield from value(name)
  for line in (HERE / 'layout.txt').read_text().splitlines():
    kind, _, rest = line.partition(' ')
    if kind == 'size':
      yield from size(rest)
    elif kind == 'sign':
      yield f'sign of {rest}', f'(({rest})-1 < ({rest})1)'
    elif kind in ('struct', 'part'):
      name, *members = rest.split()
      yield from size(name) if kind == 'struct' else ()
      yield from fields(name, members)
    elif kind == 'value':
      yield from value(rest)
    elif kind not in ('', '#'):
      sys.exit(f'layout.txt: "{line}"')


# ---- the comparison ---------------------------------------------------------------------------------------------------

def probe_source(table):
  lines = ['#ifdef PROBE_MINGW', '#include <ntddk.h>', '#include <ntstatus.h>', '#else', '#include "ntddk.h"', '#endif',
           '#include <vmbuskernelmodeclientlibapi.h>', '#include <stddef.h>',
           f'struct probe {{ unsigned long long value; char name[{NAME_BYTES}]; }};',
           '__attribute__((section("probe"), used)) struct probe layout_probe[] = {']
  for name, expression in table:
    quoted = name.replace('\\', '\\\\').replace('"', '\\"')
    lines.append(f'  {{ {expression}, "{quoted}" }},')
  return '\n'.join(lines + ['};', ''])


def numbers(work, objcopy, compiler, *options):
  """{name: number} as this compiler lays it out."""
  run(compiler, '-w', *options, '-c', work / 'probe.c', '-o', work / 'probe.o')
  run(objcopy, '-O', 'binary', '--only-section=probe', work / 'probe.o', work / 'probe.bin')
  found = {}
  for value, name in struct.iter_unpack(f'<Q{NAME_BYTES}s', padded((work / 'probe.bin').read_bytes())):
    if text := name.split(b'\0')[0].decode():
      found[text] = value
  return found


def padded(data):
  """Sections may be longer than what is in them."""
  return data + bytes(-len(data) % (8 + NAME_BYTES))


def compare(work, table):
  (work / 'probe.c').write_text(probe_source(table))
  results = {}
  for language, (compiler, options) in LANGUAGES.items():
    results[f'ours {language}'] = numbers(work, 'objcopy', compiler, *options, '-fshort-wchar', f'-I{work}/public',
                                          f'-I{OURS}')
    results[f'mingw {language}'] = numbers(work, f'{CROSS}objcopy', CROSS + compiler, *options, '-DPROBE_MINGW', *WINDOWS,
                                           f'-I{work}/public', f'-I{DDK}', '-include', work / 'first.h')
  reference = results['mingw C']
  if set(reference) != {name for name, _ in table}:
    sys.exit('names were lost on the way; is one longer than NAME_BYTES?')
  wrong = [f'{name}: ' + ', '.join(f'{side} {found[name]}' for side, found in results.items())
           for name in reference if len({found[name] for found in results.values()}) != 1]
  if wrong:
    sys.exit('\n'.join(wrong))
  return len(reference)


# ---- what must compile ------------------------------------------------------------------------------------------------

def cross_compile(work, source, *options):
  for language, (compiler, language_options) in LANGUAGES.items():
    run(CROSS + compiler, *language_options, '-w' if language == 'C++' else '-Wall', '-fsyntax-only', *WINDOWS,
        f'-I{work}/public', f'-I{DDK}', *(['-include', work / 'first.h'] if language == 'C++' else []), *options, source)


def is_for_windows(path, seen=None):
  """Whether a driver's source includes nothing but what Windows has, and its own headers."""
  seen = seen if seen is not None else set()
  for mark, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.M):
    own = path.parent / name
    if mark == '"' and own.exists():
      if own not in seen:
        seen.add(own)
        if not is_for_windows(own, seen):
          return False
    elif name not in WINDOWS_HEADERS:
      return False
  return True


def drivers(work):
  names = []
  for path in sorted((ROOT / 'drivers').glob('*.c')):
    if is_for_windows(path):
      cross_compile(work, path, f'-I{path.parent}')
      names.append(path.name)
  if 'echo.c' not in names:
    sys.exit('echo.c is not among the drivers that compile for Windows')
  return names


def main():
  # Read by `make conformance`, like CONF_COVERS in a C test.
  print('clause-test: nt_layout_test RT-9, RT-10')
  present = all(shutil.which(CROSS + tool) for tool in ('gcc', 'g++', 'objcopy')) and (DDK / 'wdm.h').exists()
  if platform.machine() != 'x86_64' or not present:
    print('no mingw-w64 for x86_64 here')
    return 1 if os.environ.get('KMCL_REQUIRE_MINGW') == '1' and platform.machine() == 'x86_64' else 77

  # Only these could have another size or layout on Windows.
  if odd := re.findall(r'^(?! *#).*(?:\blong\b(?! long)|: *\d+ *;).*$', without_comments(PUBLIC), re.M):
    sys.exit(f'{PUBLIC.name}: long, long double or a bit field: {odd}')

  with tempfile.TemporaryDirectory() as directory:
    work = pathlib.Path(directory)
    # Alone: with -I, include/nt would offer our wdm.h.
    (work / 'public').mkdir()
    shutil.copy(PUBLIC, work / 'public')
    (work / 'first.h').write_text(CXX_FIRST)
    for first in ('', 'wdm.h', 'ntddk.h', 'ntifs.h'):
      source = work / 'alone.c'
      source.write_text((f'#include <{first}>\n' if first else '') + f'#include <{PUBLIC.name}>\n')
      cross_compile(work, source)
    compiled = drivers(work)
    count = compare(work, list(dict(rows()).items()))
  print(f'{count} numbers agree; drivers for Windows: {", ".join(compiled)}')
  return 0


sys.exit(main())
