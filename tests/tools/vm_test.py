#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`kmcl vm` and `kmcl vmctl` where no guest runs: what is wrong is said, in a line. Prints TAP.

Guests run in `make guest`. Here nothing needs a KVM that can do it, and whatever this machine has will do.
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

KMCL = sys.argv[1]
PATIENCE = 100  # seconds; only to end a test that hangs
CAPABILITY = r'KVM_CAP_[A-Z0-9_]+'


def run(*words, **more):
  return subprocess.run([KMCL, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                        timeout=PATIENCE, **more)


def one_line(result):
  lines = [line for line in re.split('[\r\n]+', result.stderr) if line]
  assert len(lines) == 1, result
  return lines[0]


def wrong_options_say_what_is_wrong_and_exit_with_2():
  kernel = ('--kernel', '/dev/null')
  for words, said in (
      ((), '--kernel is needed'),
      (('--kernel',), "requires an argument"),
      ((*kernel, 'extra'), 'nothing but options'),
      ((*kernel, '--nonsense'), 'nonsense'),
      ((*kernel, '--memory', '31'), "'31' is no number from 32 to 3072"),
      ((*kernel, '--memory', '3073'), "'3073' is no number"),
      ((*kernel, '--memory', '64M'), "'64M' is no number"),
      ((*kernel, '--memory', ''), "'' is no number"),
      ((*kernel, '--memory', '18446744073709551648'), 'is no number'),
      ((*kernel, '--cpus', '0'), "'0' is no number from 1 to 32"),
      ((*kernel, '--cpus', '33'), "'33' is no number"),
      ((*kernel, '--cpus', '-1'), "'-1' is no number"),
      ((*kernel, '--queues', '0'), "'0' is no number"),
      ((*kernel, '--newest-version', '9.9'), "'9.9' is no version of VMBus"),
      ((*kernel, '--newest-version', '5'), "'5' is no version"),
      ((*kernel, '--newest-version', '5.2x'), "'5.2x' is no version"),
      ((*kernel, '--newest-version', '65541.2'), 'is no version'),
      ((*kernel, '--kvp', 'color'), "'color' is no KEY=VALUE"),
      ((*kernel, *['--disk', '/dev/null'] * 17), 'at most 16 disks'),
      ((*kernel, *['--share-bus', '/dev/null'] * 17), 'at most 16 shared buses'),
      ((*kernel, *['--kvp', 'a=b'] * 65), 'one too many'),
      ((*kernel, '--log', '/nonexistent/log'), 'cannot write /nonexistent/log')):
    result = run('vm', *words)
    assert result.returncode == 2 and not result.stdout, (words, result)
    assert said in result.stderr, (words, said, result)


def help_goes_to_stdout():
  for command in 'vm', 'vmctl':
    result = run(command, '--help')
    assert result.returncode == 0 and f'usage: kmcl {command}' in result.stdout and not result.stderr, result


def machine_that_cannot_be_says_why_in_a_line():
  """Which of the reasons depends on the machine that this runs on."""
  with tempfile.TemporaryDirectory() as directory:
    result = run('vm', '--kernel', directory)
    assert result.returncode == 1 and not result.stdout, result
    line = one_line(result)
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
      assert re.match(r'kmcl vm: cannot open /dev/kvm: .* \(load kvm_intel or kvm_amd', line), line
    elif 'lacks' in line:
      assert re.fullmatch(f"kmcl vm: this machine's KVM cannot be a Hyper-V host; it lacks {CAPABILITY}(, {CAPABILITY})*",
                          line), line
    else:
      assert line == f'kmcl vm: {directory} is no regular file', line


def devices_that_cannot_be_say_which():
  with tempfile.TemporaryDirectory() as directory:
    missing = f'{directory}/none'
    result = run('vm', '--kernel', missing, '--disk', missing)
    assert result.returncode == 1 and missing in one_line(result), result
    result = run('vm', '--kernel', missing, '--control', f'{missing}/socket')
    assert result.returncode == 1 and f'cannot listen at {missing}/socket' in one_line(result), result
    taken = f'{directory}/file'
    Path(taken).write_text('mine')
    result = run('vm', '--kernel', missing, '--control', taken)
    assert result.returncode == 1 and 'Address already in use' in one_line(result), result
    assert Path(taken).read_text() == 'mine'
    long = f'{directory}/{"x" * 108}'
    result = run('vm', '--kernel', missing, '--control', long)
    assert result.returncode == 1 and 'File name too long' in one_line(result), result


def machine_that_fails_leaves_no_control_socket():
  with tempfile.TemporaryDirectory() as directory:
    result = run('vm', '--kernel', f'{directory}/none', '--control', f'{directory}/socket')
    assert result.returncode == 1, result
    assert os.listdir(directory) == [], os.listdir(directory)


class Machine:
  """Answers orders as a machine would, with what it is told to."""

  def __init__(self, answer):
    self.directory = tempfile.TemporaryDirectory()
    self.path = f'{self.directory.name}/socket'
    self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    self.listener.bind(self.path)
    self.listener.listen(1)
    self.answer = answer
    self.got = None
    self.thread = threading.Thread(target=self.serve, daemon=True)

  def serve(self):
    client, _ = self.listener.accept()
    self.got = client.recv(65536)
    if self.answer is not None:
      client.send(self.answer)
    client.close()

  def __enter__(self):
    self.thread.start()
    return self

  def __exit__(self, *_):
    self.thread.join(PATIENCE)
    self.listener.close()
    self.directory.cleanup()


def vmctl_passes_words_and_answers_on():
  with Machine(b'0two\nlines') as machine:
    result = run('vmctl', machine.path, 'kvp', 'set', 'a key', '')
  assert machine.got == b'kvp\0set\0a key\0\0', machine.got
  assert result.returncode == 0 and result.stdout == 'two\nlines\n' and not result.stderr, result
  with Machine(b'0') as machine:
    result = run('vmctl', machine.path, 'quit')
  assert result.returncode == 0 and not result.stdout and not result.stderr, result
  with Machine(b'1it will not') as machine:
    result = run('vmctl', machine.path, 'shutdown')
  assert result.returncode == 1 and one_line(result) == 'kmcl vmctl: it will not' and not result.stdout, result
  with Machine(None) as machine:
    result = run('vmctl', machine.path, 'quit')
  assert result.returncode == 1 and 'ended before it answered' in one_line(result), result


def vmctl_says_what_is_wrong():
  with tempfile.TemporaryDirectory() as directory:
    missing = f'{directory}/none'
    result = run('vmctl', missing, 'stats')
    assert result.returncode == 1 and one_line(result) == f'kmcl vmctl: {missing}: No such file or directory', result
    result = run('vmctl', f'{directory}/{"x" * 108}', 'stats')
    assert result.returncode == 1 and 'File name too long' in one_line(result), result
    assert run('vmctl').returncode == 2
    assert run('vmctl', missing).returncode == 2
    assert run('vmctl', missing, *['word'] * 17).returncode == 2
    result = run('vmctl', missing, 'x' * 9000)
    assert result.returncode == 2 and 'too long' in one_line(result), result


TESTS = [wrong_options_say_what_is_wrong_and_exit_with_2, help_goes_to_stdout, machine_that_cannot_be_says_why_in_a_line,
         devices_that_cannot_be_say_which, machine_that_fails_leaves_no_control_socket, vmctl_passes_words_and_answers_on,
         vmctl_says_what_is_wrong]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
