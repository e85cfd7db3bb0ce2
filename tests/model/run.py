#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the models in tests/model with spin, and that they still say what the sources do.

The comment at the head of a model has lines for this script:

  RUN -DNAME=VALUE...          check the model with these bounds: no error, and every statement is reached
  BOUNDS -DNAME=VALUE...       the bounds of the variants
  VARIANT NO_X sleep: why      built with -DNO_X, spin must find a state in which somebody sleeps for ever
  VARIANT NO_X broken: why     ... or a broken assertion
  C function: access...        what the C function does, in order, of what the model is about

The last line of the output counts the checks.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('build', type=Path, help='directory for what spin generates')
parser.add_argument('--match', default='', help='only checks whose name has this in it')
parser.add_argument('-j', '--jobs', type=int, default=os.cpu_count())
args = parser.parse_args()

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GONE = 'no such function in the sources: the model must follow what the code does now'
FINDINGS = {'invalid end state': 'sleep', 'assertion violated': 'broken'}

# Of a C function's text, what models are about. Each match becomes a word: its groups, joined.
WATCHED = re.compile('|'.join([
  r'\b(ring_(?:load|store)_\w+)\([^,;]+, (RING_\w+)',
  r'\b(?:pthread_mutex_)((?:try|un)?lock)\(&(?:\w+->)*(?:\w+\.)*(\w+)',
  r'\bvmb_lock_(take|give|try)\(&(?:\w+->)*(?:\w+\.)*(\w+)',
  r'\b__atomic_(\w+?)_n\(&(?:\w+->)*(?:\w+\.)*(\w+)',
  r'\b(?:atomic_)(\w+?)(?:_explicit)?\(&?(?:\w+->)*(?:\w+\.)*(\w+)',
  r'->(state == )KMCL_PACKET_(\w+)',
  r'->(state = )KMCL_PACKET_(\w+)',
  r'\b(case )KMCL_PACKET_(\w+)',
  r'->(generation)\b',
  r'\b(FUTEX_WA\w+)',
  r'\b(ring_fence_full|tx_capture_out|rx_capture_in|rx_load_pending_send|rx_check_crossing|rx_refresh|'
  r'(?:tx_reader|rx_writer)_is_awake|rx_set_mask|[tr]x_stop_being_awake|ring_fence_light|fence|'
  r'vmb_ring_(?:write|copy|peek|tx_commit|tx_want|tx_unwant|rx_release|rx_mask|rx_unmask)|'
  r'kmcl_slot_(?:find|give)|kmcl_packet_(?:forget_locked|put)|kmcl_tx_(?:settle|finish|claim|cancel|flush)|'
  r'wait_done|nt_futex_(?:wait|wake)|vmb_lock_(?:wait|wake)|RemoveEntryList|'
  r'own|disown|unmask|run_batch|may_process|look|spin|kmcl_loop_kick|kmcl_loop_watch|kmcl_loop_queue_up|'
  r'kmcl_rx_(?:kick|turn|sleep|poll|wait|wait_begin|wait_end)|kmcl_bell_\w+|sleep_at_bell|wait_at_bell|(?:make|wake|close)_locked|'
  r'ready_(?:push|pop)|epoll_wait|wake)\(',
]))
FUNCTION = re.compile(r'^(\w+)\([^;{]*\)\n\{\n(.*?)^\}', re.M | re.S)
VARIANT = re.compile(r'\bNO_[A-Z_]+\b')
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.S)


def words_of(body):
  """What a function's body does of what is watched, in order."""
  words = []
  for found in WATCHED.finditer(COMMENT.sub('', body)):
    groups = [group for group in found.groups() if group]
    if len(groups) == 1:
      words.append(groups[0])
    elif groups[0] in ('state == ', 'state = ', 'case '):
      words.append(groups[0].replace(' ', '').replace('case', 'case:') + groups[1])
    else:
      words.append(f'{groups[0]}({groups[1]})')
  return words


def functions():
  """{name: [body]} of all C functions below src/ and include/."""
  found = {}
  for path in sorted([*(ROOT / 'src').rglob('*.[ch]'), *(ROOT / 'include').rglob('*.h')]):
    for name, body in FUNCTION.findall(path.read_text()):
      found.setdefault(name, []).append(body)
  return found


class Model:
  def __init__(self, path):
    self.path, self.name, self.text = path, path.stem, path.read_text()
    _, header, code = self.text.split('*/', 2)
    lines = [line.removeprefix(' *').strip() for line in header.splitlines()]
    starting = lambda word: [line.removeprefix(word + ' ') for line in lines if line.startswith(word + ' ')]
    self.runs = [line.split() for line in starting('RUN')]
    self.bounds = (starting('BOUNDS') or [''])[0].split()
    self.variants = dict(re.match(r'(NO_\w+) (sleep|broken): ', line).groups() for line in starting('VARIANT'))
    self.functions = dict(re.match(r'(\w+): ?(.*)', line).groups() for line in starting('C'))
    self.used = set(VARIANT.findall(code))
    self.included = {name: set(VARIANT.findall((path.parent / name).read_text())) for name in re.findall(r'#include "(.*?)"', code)}

  def check_itself(self):
    """As checks() below, of what needs no spin."""
    different = ' '.join(sorted((self.used - set(self.variants)) | (set(self.variants) - self.used.union(*self.included.values()))))
    yield f'{self.name}: variants are listed', lambda: different and f'the comment at the head and the #ifdefs differ: {different}'
    named = set(re.findall(r'\b([a-z]\w*_\w+)\(\)', ' '.join(re.findall(r'/\*.*?\*/', self.text, re.S))))
    for name in sorted(named - set(self.functions)):
      yield f'{self.name}: {name}()', lambda name=name: '' if name in C_FUNCTIONS else GONE
    for name, expected in self.functions.items():
      yield f'{self.name}: {name}()', lambda name=name, expected=expected: self.compare(name, expected)

  def compare(self, name, expected):
    seen = [' '.join(words_of(body)) for body in C_FUNCTIONS.get(name, [])]
    if not seen or expected in seen:
      return '' if seen else GONE
    return ('the code differs from the model: change the model first, then its line "C"\n'
            f'  model:  {expected}\n' + '\n'.join(f'  source: {one}' for one in seen))


def explore(model, options, directory):
  """(output of spin's verifier, problem with getting that far)."""
  shutil.rmtree(directory, ignore_errors=True)
  directory.mkdir(parents=True)
  for command in (['spin', '-a', *options, str(model.path)],
                  ['cc', '-O0', '-w', '-DSAFETY', '-DCOLLAPSE', '-o', 'pan', 'pan.c'],
                  ['./pan', '-m100000']):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if done.returncode != 0 or (command[0] == 'spin' and 'rror:' in output):
      return '', f'{" ".join(command)} in {directory} failed:\n{output}'
  (directory / 'pan.txt').write_text(output)
  return output, ''


def finding(output):
  """'' when the verifier found nothing, 'sleep', 'broken', or what else it said."""
  if re.search(r'errors: 0$', output, re.M) and 'search depth too small' not in output and 'Search not completed' not in output:
    return ''
  found = re.search(r'^pan:1: (.*)', output, re.M)
  if not found:
    return output
  if '.last<' in found[1]:
    return 'HISTORY in the model is too small'
  return next((kind for text, kind in FINDINGS.items() if text in found[1]), found[1])


def last_steps(model, directory, options):
  """How the verifier got to an error, for people."""
  trail = subprocess.run(['spin', '-t', '-p', '-k', str(directory / f'{model.path.name}.trail'), *options, str(model.path)],
                         cwd=directory, capture_output=True, text=True).stdout.splitlines()
  return '\n'.join('  ' + line for line in trail[-60:])


def check_run(model, options):
  directory = args.build / f'{model.name}{"".join(options)}'
  output, problem = explore(model, options, directory)
  if not problem and (found := finding(output)):
    problem = f'spin found: {found}\n{last_steps(model, directory, options)}'
  # What is never reached is not checked; "-end-" is where a process that serves for ever would stop.
  lost = [line.strip() for line in re.findall(r'^\t(\S+:\d+, state \d+, .*)', output, re.M) if '"-end-"' not in line]
  if not problem and lost:
    problem = 'the model never does this:\n  ' + '\n  '.join(lost)
  return problem


def check_variant(model, variant, expected):
  output, problem = explore(model, [*model.bounds, f'-D{variant}'], args.build / f'{model.name}-{variant}')
  if not problem and (found := finding(output)) != expected:
    problem = f'spin was to find "{expected}", and says: {found or "no error"}'
  return problem


def checks():
  """(name, function that returns what is wrong, or '')."""
  for name, used in sorted({name: used for model in models for name, used in model.included.items()}.items()):
    lost = ' '.join(sorted(used.difference(*(model.variants for model in models if name in (model.path.name, *model.included)))))
    yield f'{name}: variants are listed', lambda lost=lost: lost and f'neither it nor a model that includes it lists {lost}'
  for model in models:
    yield from model.check_itself()
    for options in model.runs:
      yield f'{model.name} {" ".join(options)}: nothing is lost', lambda m=model, o=options: check_run(m, o)
    for variant, expected in model.variants.items():
      yield f'{model.name} {variant}: spin finds the error', lambda m=model, v=variant, e=expected: check_variant(m, v, e)


if not shutil.which('spin'):
  sys.exit('spin is not installed: run scripts/install-deps.sh ci')
args.build = args.build.resolve()
C_FUNCTIONS = functions()
models = [model for model in map(Model, sorted(HERE.glob('*.pml'))) if model.runs]
failed = passed = 0
with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
  wanted = [(name, check) for name, check in checks() if args.match in name]
  for (name, _), problem in zip(wanted, pool.map(lambda one: one[1](), wanted)):
    failed += bool(problem)
    passed += not problem
    print(f'{"FAIL" if problem else "ok  "} {name}' + (f'\n{problem}' if problem else ''), flush=True)
print(f'model: {passed} passed, {failed} failed')
sys.exit(failed != 0 or passed == 0)
