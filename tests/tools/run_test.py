#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kmcl run and kmcl ioctl with two drivers in two processes. Prints TAP."""
import os
import queue
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

KMCL, SERVER, CLIENT, INF = sys.argv[1:5]
CLASS = '{2b9f0c4d-61e8-4c2a-8570-1bd34fa60e77}'
TYPE = '7a1de5c2-33b4-4f60-9c1a-520e8d47b190'
INSTANCE = '0f6c2b11-8a4d-4e0b-b327-6d1f94e85c03'
COUNT, SEND, WAIT, REVERSE = '0x22,0x800,0,0', '0x22,0x801,0,0', '0x22,0x802,0,0', '0x22,0x803,2,0'
PATIENCE = 100  # seconds; only to end a test that hangs


def run(*words, **more):
  return subprocess.run([KMCL, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, **more)


def text(*words, **more):
  return run(*words, text=True, **more)


class Driver:
  """A `kmcl run` whose lines, of both streams in the order of their writing, can be waited for."""

  def __init__(self, *words):
    self.process = subprocess.Popen([KMCL, 'run', *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True)
    self.lines, self.queue = [], queue.Queue()
    threading.Thread(target=self.read, daemon=True).start()

  def read(self):
    for line in self.process.stdout:
      self.queue.put(line.rstrip('\n'))
    self.queue.put(None)

  def until(self, part):
    """The lines up to the first that contains this."""
    seen = []
    while True:
      line = self.queue.get(timeout=PATIENCE)
      assert line is not None, (part, seen, self.process.wait(PATIENCE))
      seen.append(line)
      if part in line:
        return seen

  def end(self, number=signal.SIGINT):
    """(exit status, the lines that follow the signal)."""
    self.process.send_signal(number)
    seen = []
    while (line := self.queue.get(timeout=PATIENCE)) is not None:
      seen.append(line)
    return self.process.wait(PATIENCE), seen


@contextmanager
def drivers(*roles):
  """A directory with the client's driver and INF, a bus, and these drivers running."""
  with tempfile.TemporaryDirectory() as directory:
    shutil.copy(CLIENT, f'{directory}/vscecho.so')
    shutil.copy(INF, f'{directory}/vscecho.inf')
    bus = f'{directory}/bus'
    running = []
    try:
      for role in roles:
        words = ['--server', SERVER] if role == 'server' else [f'{directory}/vscecho.so']
        running.append(Driver('--bus', bus, *words))
        running[-1].until('running ')
      yield bus, *running
    finally:
      for driver in running:
        if driver.process.poll() is None:
          driver.process.kill()
          driver.process.wait()


def two_processes_exchange_what_ioctls_ask_for():
  with drivers('server', 'client') as (bus, server, client):
    result = run('ioctl', '--bus', bus, CLASS, SEND, '--in-text', 'over VMBus', '--format', 'raw')
    assert result.returncode == 0 and result.stdout == b'over VMBus', result
    result = text('ioctl', '--bus', bus, CLASS, SEND, '--in', '48 69', '--out', '16')
    assert result.returncode == 0 and result.stdout.split() == ['0000', '48', '69', 'Hi'], result
    result = text('ioctl', '--bus', bus, 'VspEcho', COUNT)
    assert result.returncode == 0 and result.stdout.startswith('0000  02 00 00 00 '), result
    assert text('ioctl', '--bus', bus, r'\\.\VspEcho', '0x222000').stdout == result.stdout


def input_and_output_go_through_files():
  with drivers('server', 'client') as (bus, server, client):
    data = os.urandom(3000)
    source, target = f'{bus}.in', f'{bus}.out'
    Path(source).write_bytes(data)
    result = run('ioctl', '--bus', bus, CLASS, REVERSE, '--in-file', source, '--out-file', target)
    assert result.returncode == 0 and Path(target).read_bytes() == data[::-1], result
    result = subprocess.run([KMCL, 'ioctl', '--bus', bus, CLASS, REVERSE, '--in-file', '-', '--format', 'raw'],
                            input=b'standard', capture_output=True, timeout=PATIENCE)
    assert result.stdout == b'dradnats', result


def failures_say_their_status():
  with drivers('server', 'client') as (bus, server, client):
    for words, expected in (
        (['VspEcho', '0x22,0x8ff,0,0'], 'STATUS_INVALID_DEVICE_REQUEST'),
        (['VspEcho', COUNT, '--out', '1'], 'STATUS_BUFFER_TOO_SMALL'),
        (['NoSuchDevice', COUNT], 'STATUS_OBJECT_NAME_NOT_FOUND'),
        (['{00000000-0000-0000-0000-000000000000}', COUNT], 'STATUS_OBJECT_NAME_NOT_FOUND'),
        ([CLASS + '#1', COUNT], 'STATUS_OBJECT_NAME_NOT_FOUND'),
        ([CLASS, COUNT, '--in', '0000000000000000', '--bus-handle-at', '0'], 'STATUS_INVALID_HANDLE')):
      result = text('ioctl', '--bus', bus, *words)
      assert result.returncode == 1 and expected in result.stderr and not result.stdout, (words, result)


def the_control_sockets_are_their_owners_and_go_with_the_process():
  with drivers('server', 'client') as (bus, server, client):
    sockets = [Path(f'{bus}.io.{driver.process.pid}') for driver in (server, client)]
    for socket in sockets:
      assert stat.S_IMODE(socket.stat().st_mode) == 0o600, socket
    names = text('ioctl', '--bus', bus, '--list').stdout
    assert '\\??\\VspEcho\t\\Device\\VspEcho\n' in names and f'VMBUS#{{{TYPE}}}' in names, names
    assert '\\Device\\VMBus\\kmcl_interface' in names and '\\Device\\RootVMBus\\kmcl_interface' in names, names
    assert client.end()[0] == 0 and server.end(signal.SIGTERM)[0] == 0
    assert not any(socket.exists() for socket in sockets)
    result = text('ioctl', '--bus', bus, 'VspEcho', COUNT)
    assert result.returncode == 1 and 'no driver runs' in result.stderr, result
    result = text('ioctl', '--bus', bus, '--list')
    assert result.returncode == 1 and 'no driver runs' in result.stderr, result


def ctrl_c_removes_devices_in_order_and_unloads():
  with drivers('server', 'client') as (bus, server, client):
    status, lines = client.end()
    assert status == 0, lines
    assert lines == ['vscecho: ReleaseHardware', 'vscecho: device cleanup',
                     f'removed  {TYPE}, instance {INSTANCE}', 'vscecho: driver cleanup', 'unloaded'], lines
    status, lines = server.end()
    assert status == 0, lines
    assert [line for line in lines if 'unload ' not in line] == \
      ['vspecho: D0Exit to 5', 'vspecho: device cleanup', 'removed  root device', 'unloaded'], lines
    assert any('\\Services\\vspecho' in line for line in lines), lines


def a_server_that_ends_takes_the_clients_device_by_surprise():
  with drivers('server', 'client') as (bus, server, client):
    # Answered: so the channel is open, or its opening could still be refused when the server ends.
    assert run('ioctl', '--bus', bus, CLASS, SEND, '--in', '00').returncode == 0
    held = subprocess.Popen([KMCL, 'ioctl', '--bus', bus, CLASS, WAIT], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client.until('a request waits')
    assert server.end()[0] == 0
    lines = client.until('removed ')
    assert [line.split(' ')[0 if 'vscecho' not in line else 1] for line in lines] == \
      ['rescinded', 'SurpriseRemoval', 'the', 'ReleaseHardware', 'device', 'removed'], lines
    assert 'STATUS_CANCELLED' in held.communicate(timeout=PATIENCE)[1] and held.returncode == 1
    result = text('ioctl', '--bus', bus, CLASS, SEND, '--in', '00')
    assert result.returncode == 1 and 'STATUS_OBJECT_NAME_NOT_FOUND' in result.stderr, result
    assert client.end() == (0, ['vscecho: driver cleanup', 'unloaded'])


def a_request_whose_sender_goes_away_is_cancelled():
  with drivers('server', 'client') as (bus, server, client):
    held = subprocess.Popen([KMCL, 'ioctl', '--bus', bus, CLASS, WAIT], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client.until('a request waits')
    held.kill()
    held.wait()
    client.until('the request is cancelled')
    # Orderly, or a request that stayed would have made it a surprise.
    status, lines = client.end()
    assert status == 0 and 'vscecho: SurpriseRemoval' not in lines, lines


def a_server_may_come_later_than_its_guest_wants():
  with drivers('server') as (bus, server):
    # Connected to a bus that has offers of another type only.
    other = Driver('--bus', bus, '--type', 'Network adapter', CLIENT)
    assert '0 devices' in other.until('running ')[-1]
    assert other.end() == (0, ['vscecho: driver cleanup', 'unloaded'])
    assert server.end()[0] == 0


def a_server_is_replaced_and_its_guests_do_not_notice():
  with drivers('server', 'client') as (bus, server, client):
    for _ in range(4):
      successor = Driver('--server', '--takeover', '--bus', bus, SERVER)
      try:
        assert 'taken over' in successor.until('running ')[-1]
        assert server.process.wait(PATIENCE) == 0 and 'handed over' in server.until('handed over')[-1]
        for word in 'over', 'VMBus':
          result = run('ioctl', '--bus', bus, CLASS, SEND, '--in-text', word, '--format', 'raw')
          assert result.returncode == 0 and result.stdout == word.encode(), result
      except BaseException:
        successor.process.kill()
        successor.process.wait()
        raise
      server = successor
    # One who begins when nobody is there, and one who cannot.
    assert server.end()[0] == 0
    client.until('removed ')
    server = Driver('--server', '--takeover', '--bus', bus, SERVER)
    try:
      lines = server.until('running ')
      assert any('no server runs' in line for line in lines) and 'taken over' not in lines[-1], lines
      second = text('run', '--server', '--bus', bus, SERVER)
      assert second.returncode == 1 and 'exists already' in second.stderr, second
      assert client.end()[0] == 0
    finally:
      assert server.end()[0] == 0
    assert not Path(f'{bus}.takeover').exists()


def loopback_needs_no_bus():
  with tempfile.TemporaryDirectory() as directory:
    control = f'{directory}/control'
    server = Driver('--server', '--control', control, SERVER)
    server.until('running ')
    result = text('ioctl', '--control', control, 'VspEcho', COUNT)
    assert result.returncode == 0 and '00 00 00 00' in result.stdout, result
    second = text('run', '--server', '--control', control, SERVER)
    assert second.returncode == 1 and control in second.stderr, second
    assert server.end()[0] == 0 and not Path(control).exists()


def what_cannot_run_says_why():
  with tempfile.TemporaryDirectory() as directory:
    copy = f'{directory}/alone.so'
    shutil.copy(CLIENT, copy)
    empty = f'{directory}/empty.inf'
    Path(empty).write_text('[Version]\n')
    for words, expected in (
        ([f'{directory}/none.so'], 'no such file'), ([empty], 'empty.inf'), ([copy], f'{directory}/alone.inf'),
        (['--inf', empty, copy], 'hardware id'), (['--inf', f'{directory}/none.inf', copy], 'none.inf'),
        (['--bus', f'{directory}/none', copy], f'cannot connect to {directory}/none')):
      result = text('run', *words)
      assert result.returncode == 1 and expected in result.stderr, (words, result)


def usage_errors_exit_with_2():
  for words in (['run'], ['run', 'a', 'b'], ['run', '--nonsense', 'a'], ['run', '--type', 'x', 'a'],
                ['run', '--server', '--type', TYPE, 'a'], ['run', '--takeover', '--bus', 'x', 'a'],
                ['run', '--server', '--takeover', 'a'], ['ioctl'], ['ioctl', '--bus', 'x'],
                ['ioctl', '--bus', 'x', 'name'], ['ioctl', '--bus', 'x', '--control', 'y', 'n', '1'],
                ['ioctl', '--bus', 'x', 'n', 'code'], ['ioctl', '--bus', 'x', 'n', '1,2,3'],
                ['ioctl', '--bus', 'x', 'n', '1,2,3,4'], ['ioctl', '--bus', 'x', 'n', '1', '--in', '123'],
                ['ioctl', '--bus', 'x', 'n', '1', '--in', 'xy'], ['ioctl', '--bus', 'x', 'n', '1', '--out', '-1'],
                ['ioctl', '--bus', 'x', 'n', '1', '--out', '16777217'], ['ioctl', '--bus', 'x', '--list', 'n'],
                ['ioctl', '--bus', 'x', 'n', '1', '--format', 'oct'], ['ioctl', '--nonsense']):
    result = text(*words)
    assert result.returncode == 2 and result.stderr.startswith('kmcl ') and not result.stdout, (words, result)
  for command in 'run', 'ioctl':
    result = text(command, '--help')
    assert result.returncode == 0 and f'usage: kmcl {command}' in result.stdout and not result.stderr, result


TESTS = [two_processes_exchange_what_ioctls_ask_for, input_and_output_go_through_files, failures_say_their_status,
         the_control_sockets_are_their_owners_and_go_with_the_process, ctrl_c_removes_devices_in_order_and_unloads,
         a_server_that_ends_takes_the_clients_device_by_surprise, a_request_whose_sender_goes_away_is_cancelled,
         a_server_may_come_later_than_its_guest_wants, a_server_is_replaced_and_its_guests_do_not_notice,
         loopback_needs_no_bus, what_cannot_run_says_why,
         usage_errors_exit_with_2]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
