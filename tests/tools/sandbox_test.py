#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who may connect to `kmcl run` and `kmcl echo`, and what a server that serves can no longer do. Prints TAP.

  sandbox_test.py KMCL TRIES ECHO_SERVER ECHO_CLIENT ECHO_INF yes|no (whether this build can lock a process in)

As root it also has two users to try with.
"""
import contextlib
import os
import pwd
import signal
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

KMCL, TRIES, SERVER, CLIENT, INF = sys.argv[1:6]
CAN_LOCK = sys.argv[6] == 'yes'
ROOT = os.geteuid() == 0
TRY = '0x22,0x900,0,0'
PATIENCE = 100  # seconds; only to end a test that hangs
STRANGER = 65534
SKIPPED = object()


def text(*words, kmcl=KMCL, **more):
  return subprocess.run([kmcl, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
                        text=True, **more)


def as_stranger():
  os.setgroups([])
  os.setresgid(STRANGER, STRANGER, STRANGER)
  os.setresuid(STRANGER, STRANGER, STRANGER)


def public_copy(directory):
  """The command where everybody may read it: the tree may lie where only root gets."""
  shutil.copy(KMCL, f'{directory}/kmcl')
  os.mkdir(f'{directory}/src')
  shutil.copy(Path(KMCL).parent / 'src/libkmcl.so', f'{directory}/src')
  return f'{directory}/kmcl'


class Server:
  """A kmcl that serves a bus in a directory of its own, which anybody may enter."""

  def __init__(self, *words, command='run'):
    self.directory = tempfile.TemporaryDirectory()
    os.chmod(self.directory.name, 0o755)
    self.bus = f'{self.directory.name}/bus'
    self.others = []
    self.start(*words, command=command)

  def start(self, *words, command='run'):
    if command == 'run':
      words = ['--server', *words]
    self.process = subprocess.Popen([KMCL, command, '--bus', self.bus, *words], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    self.others.append(self.process)
    self.line = ''
    while 'Ctrl-C ends it' not in self.line:
      self.line = self.process.stdout.readline()
      assert self.line, self.process.communicate()
    return self

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in self.others:
      if process.poll() is None:
        process.kill()
      process.communicate()
    self.directory.cleanup()

  def ask(self, name):
    return text('ioctl', '--bus', self.bus, 'VspTries', TRY, '--in-text', name, '--out', '512', '--format', 'raw')

  def end(self):
    """(exit status, stderr)."""
    self.process.send_signal(signal.SIGINT)
    return self.ended()

  def ended(self):
    _, error = self.process.communicate(timeout=PATIENCE)
    return self.process.returncode, error


# Name of the try, and of the system call that the message must have.
BAD = {'open': 'openat of /etc/passwd', 'create': 'openat of /tmp/vsptries-was-here', 'old-open': 'open of /etc/shadow',
       'socket': 'socket', 'unix': 'socket', 'execve': 'execve', 'fork': 'clone', 'kill': 'kill', 'ptrace': 'ptrace',
       'new-code': 'mmap', 'make-code': 'mprotect', 'ring': 'io_uring_setup', 'setuid': 'setuid', 'limit': 'prlimit64',
       'thread-open': 'openat of /etc/passwd'}
GOOD = 'threads', 'memory', 'maps'


def what_a_server_does_not_need_stops_it_and_is_named():
  for name, call in BAD.items():
    with Server(TRIES) as server:
      result = server.ask(name)
      assert result.returncode != 0 and 'done' not in result.stdout, (name, result)
      status, error = server.ended()
      assert status == 1, (name, status, error)
      assert f'kmcl run: the sandbox stopped the system call {call}' in error and '--sandbox=off' in error, (name, error)
      assert error.count('kmcl run:') == 1, (name, error)  # also of a call that all threads make
  assert not Path('/tmp/vsptries-was-here').exists()
  # The C library's system() keeps all signals from its thread: then there is no message, and the same end.
  with Server(TRIES) as server:
    assert server.ask('system').returncode != 0
    assert server.ended()[0] == -signal.SIGSYS


def what_a_good_server_does_it_goes_on_doing():
  with Server(TRIES) as server:
    for _ in range(3):
      for name in GOOD:
        result = server.ask(name)
        assert result.stdout.startswith(f'{name} done'), (name, result)
    assert server.end()[0] == 0
    assert os.listdir(server.directory.name) == []  # socket files go with it


def without_the_sandbox_a_driver_may_do_what_its_user_may():
  with Server('--sandbox=off', TRIES) as server:
    for name in 'open', 'socket', 'fork', 'new-code':
      assert server.ask(name).stdout.startswith(f'{name} done'), name
    assert server.end()[0] == 0


def a_locked_server_serves_its_guests():
  with Server('--limit', 'clients=8', SERVER) as server:
    shutil.copy(CLIENT, f'{server.directory.name}/vscecho.so')
    shutil.copy(INF, f'{server.directory.name}/vscecho.inf')
    for _ in range(3):
      assert '7a1de5c2' in text('ls', '--bus', server.bus).stdout
    assert server.end()[0] == 0
  with Server(command='echo') as server:
    for words in ('--count', '2000', '--depth', '32', '--external', '65536'), ('--count', '500', '--size', '65536'):
      result = text('ping', '--bus', server.bus, *words)
      assert result.returncode == 0, result
    if CAN_LOCK:
      status = Path(f'/proc/{server.process.pid}/status').read_text()
      assert 'Seccomp:\t2' in status and 'NoNewPrivs:\t1' in status, status
      read = 0
      for thread in Path(f'/proc/{server.process.pid}/task').iterdir():
        # A worker leaves when it had nothing to do for a while.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
          status = (thread / 'status').read_text()
          assert 'Seccomp:\t2' in status, thread
          read += 1
      assert read > 0
    assert server.end()[0] == 0


def a_locked_server_is_replaced_and_waits_when_the_successor_fails():
  with Server(TRIES) as server:
    first = server.process
    # One that is told everything and then says nothing: it hangs up.
    import socket
    visitor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    visitor.settimeout(PATIENCE)
    visitor.connect(f'{server.bus}.takeover')
    assert len(visitor.recv(65536)) == 8
    visitor.close()
    if CAN_LOCK:
      line = first.stderr.readline()
      assert 'cannot load its driver again' in line and 'kmcl run --takeover' in line, line
    else:
      assert 'this server goes on' in first.stderr.readline()
    server.start('--takeover', TRIES)
    assert 'taken over' in server.line, server.line
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0
    assert server.ask('threads').stdout.startswith('threads done')
    assert server.end()[0] == 0
    assert os.listdir(server.directory.name) == []


def root_becomes_the_user_it_is_told():
  if not ROOT:
    with Server('--user', pwd.getpwuid(os.geteuid()).pw_name, TRIES) as server:  # that it is already
      assert server.end()[0] == 0
    result = text('run', '--server', '--user', 'root', TRIES)
    assert result.returncode == 1 and 'only root can become another user' in result.stderr, result
    return None
  with Server('--user', 'nobody', TRIES) as server:
    assert server.ask('threads').stdout == f'threads done, uid {STRANGER} {STRANGER}'
    status = Path(f'/proc/{server.process.pid}/status').read_text()
    for line in f'Uid:\t{STRANGER}\t{STRANGER}\t{STRANGER}', 'CapEff:\t0000000000000000', 'CapPrm:\t0000000000000000':
      assert line in status, (line, status)
    # Root, who began to listen, is still who may connect and take over.
    first = server.process
    assert text('ls', '--bus', server.bus).returncode == 0
    server.start('--takeover', TRIES)
    assert 'taken over' in server.line, server.line
    assert server.ask('memory').stdout.startswith('memory done')
    first.communicate(timeout=PATIENCE)
    assert server.end()[0] == 0
  with Server('--user', 'nobody', command='echo') as server:
    assert text('ping', '--bus', server.bus, '--external', '4096').returncode == 0
    assert server.end()[0] == 0
  return None


def strangers_are_told_why_they_may_not_connect():
  if not ROOT:
    return SKIPPED
  with Server('--allow-uid', '4242', command='echo') as server:
    assert stat.S_IMODE(os.stat(server.bus).st_mode) == 0o666
    kmcl = public_copy(server.directory.name)
    result = text('ls', '--bus', server.bus, kmcl=kmcl, preexec_fn=as_stranger)
    assert result.returncode == 1 and not result.stdout, result
    assert 'connection refused: uid 65534 may not connect; the server\'s owner must start it with --allow-uid 65534' \
      in result.stderr, result
    assert text('ls', '--bus', server.bus).returncode == 0
    status, error = server.end()
    assert status == 0 and 'refused a client (pid ' in error and 'uid 65534' in error, error
  for words in ('--allow-uid', 'nobody'), ('--allow-gid', str(STRANGER)):
    with Server(*words, command='echo') as server:
      kmcl = public_copy(server.directory.name)
      result = text('ping', '--bus', server.bus, kmcl=kmcl, preexec_fn=as_stranger)
      assert result.returncode == 0, result
      assert server.end()[0] == 0
  return None


def a_server_of_somebody_else_is_not_trusted():
  if not ROOT:
    return SKIPPED
  with tempfile.TemporaryDirectory() as directory:
    os.chmod(directory, 0o777)
    bus = f'{directory}/bus'
    server = subprocess.Popen([public_copy(directory), 'echo', '--bus', bus], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              preexec_fn=as_stranger)
    try:
      assert 'serving' in server.stdout.readline()
      for command in 'ls', 'ping':
        result = text(command, '--bus', bus)
        assert result.returncode == 1 and 'is uid 65534' in result.stderr and '--allow-uid 65534' in result.stderr, result
        assert text(command, '--bus', bus, '--allow-uid', 'nobody').returncode == 0
    finally:
      server.send_signal(signal.SIGINT)
      server.communicate(timeout=PATIENCE)
  return None


def a_client_too_many_is_told_so():
  with Server('--limit', 'clients=1', SERVER) as server:
    directory = server.directory.name
    shutil.copy(CLIENT, f'{directory}/vscecho.so')
    shutil.copy(INF, f'{directory}/vscecho.inf')
    client = subprocess.Popen([KMCL, 'run', '--bus', server.bus, f'{directory}/vscecho.so'], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    server.others.append(client)
    for line in client.stdout:
      if line.startswith('running '):
        break
    result = text('ls', '--bus', server.bus)
    assert result.returncode == 1 and 'the server has the 1 clients that it may have' in result.stderr, result
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=PATIENCE)
    assert client.returncode == 0
    assert server.end()[0] == 0


def usage_errors_say_what_was_expected():
  for words, expected in (
      (['run', '--server', '--bus', 'x', '--allow-uid', 'no such user', 'a'], "there is no user 'no such user'"),
      (['run', '--server', '--bus', 'x', '--allow-uid', '4294967295', 'a'], 'is no user id'),
      (['run', '--server', '--bus', 'x', '--allow-gid', 'no such group', 'a'], "there is no group 'no such group'"),
      (['run', '--server', '--bus', 'x', '--limit', 'clients', 'a'], 'expected NAME=N with clients, channels'),
      (['run', '--server', '--bus', 'x', '--limit', 'clientele=3', 'a'], 'expected NAME=N with clients, channels'),
      (['run', '--server', '--bus', 'x', '--limit', 'channels=2048', 'a'], 'a number from 1 to 2047'),
      (['run', '--server', '--bus', 'x', '--limit', 'messages=0', 'a'], 'a number from 1 to'),
      (['run', '--server', '--bus', 'x', '--limit', 'pages=-1', 'a'], 'a number from 1 to'),
      (['run', '--bus', 'x', '--limit', 'clients=3', 'a'], 'are for a --server'),
      (['run', '--bus', 'x', '--user', 'nobody', 'a'], 'are for a --server'),
      (['run', '--bus', 'x', '--sandbox', 'a'], 'are for a --server'),
      (['run', '--server', '--allow-uid', '0', 'a'], 'are for a --bus'),
      (['run', '--server', '--sandbox=perhaps', 'a'], 'expected on or off'),
      (['echo', '--bus', 'x', '--limit', 'memory-mib=x'], 'a number from 1 to'),
      (['ls', '--bus', 'x', '--allow-uid', 'no such user'], 'there is no user'),
      (['ping', '--bus', 'x', '--allow-uid', 'no such user'], 'there is no user')):
    result = text(*words)
    assert result.returncode == 2 and expected in result.stderr and not result.stdout, (words, result)
  many = [word for uid in range(33) for word in ('--allow-uid', str(uid))]
  result = text('run', '--server', '--bus', 'x', *many, 'a')
  assert result.returncode == 2 and 'name a group instead' in result.stderr, result


def a_sandbox_that_cannot_be_made_is_an_error_when_it_was_asked_for():
  with tempfile.TemporaryDirectory() as directory:
    result = text('run', '--server', '--bus', f'{directory}/bus', '--sandbox=on', TRIES)
    assert result.returncode == 1 and 'cannot lock the process in' in result.stderr and '--sandbox=off' in result.stderr, \
      result


def a_user_that_does_not_exist_is_named():
  with tempfile.TemporaryDirectory() as directory:
    result = text('run', '--server', '--bus', f'{directory}/bus', '--user', 'no such user', TRIES)
    assert result.returncode == 1 and "there is no user 'no such user'" in result.stderr, result


TESTS = [what_a_server_does_not_need_stops_it_and_is_named if CAN_LOCK else
         a_sandbox_that_cannot_be_made_is_an_error_when_it_was_asked_for, what_a_good_server_does_it_goes_on_doing,
         without_the_sandbox_a_driver_may_do_what_its_user_may, a_locked_server_serves_its_guests,
         a_locked_server_is_replaced_and_waits_when_the_successor_fails, root_becomes_the_user_it_is_told,
         strangers_are_told_why_they_may_not_connect, a_server_of_somebody_else_is_not_trusted,
         a_client_too_many_is_told_so, usage_errors_say_what_was_expected,
         a_user_that_does_not_exist_is_named]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    skipped = test() is SKIPPED
    print(f'{"not " if skipped else ""}ok {number} {"# SKIP" if skipped else "-"} {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
