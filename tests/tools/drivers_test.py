#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sample drivers in processes of their own, run by `kmcl run` and used by `kmcl ioctl`. Prints TAP."""
import contextlib
import hashlib
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

KMCL, DRIVERS, MARK = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
PATIENCE = 100  # seconds; only to end a test that hangs
MIB = 1 << 20


def control(function, method=0):
  """CTL_CODE(FILE_DEVICE_UNKNOWN, function, method, FILE_ANY_ACCESS)"""
  return hex(0x22 << 16 | function << 2 | method)


PING_RUN, PING_STATISTICS = control(0xA00), control(0xA01)
IDENTIFY, READ, WRITE, FLUSH, TEST = control(0xB00), control(0xB01, 2), control(0xB02), control(0xB03), control(0xB04)


class Place:
  """A directory with a bus, a disk, and the processes that run drivers; all end with it."""

  def __init__(self):
    self.stack = contextlib.ExitStack()
    self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
    self.bus, self.disk = self.directory / 'bus', self.directory / 'disk \u00e9'
    self.running, self.inputs = [], 0

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in reversed(self.running):
      if process.poll() is None:
        process.kill()
      process.wait()
      process.stdout.close()
    self.stack.close()

  def run(self, driver, *words, lines=1, **more):
    """Start a driver, and wait until it said that it runs, after so many lines."""
    process = subprocess.Popen([KMCL, 'run', '--bus', self.bus, *words, DRIVERS / f'{driver}.so'], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    self.running.append(process)
    process.said = ''
    while 'Ctrl-C ends it' not in process.said:
      line = process.stdout.readline()
      process.said += line
      assert line, process.said
    return process

  def server(self, driver, *words, **more):
    return self.run(driver, '--server', *words, **more)

  def block_server(self, *words, size=64 * MIB, **more):
    with open(self.disk, 'ab') as disk:
      disk.truncate(size)
    return self.server('blockdev', '--set', f'Path={self.disk}', *words, **more)

  def end(self, process):
    """Ctrl-C; the driver must leave nothing behind."""
    process.send_signal(signal.SIGINT)
    return self.ended(process)

  def ended(self, process):
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (process.said, rest)
    assert 'unloaded' in rest, rest
    return rest

  def start_ioctl(self, device, code, data=b'', out=4096):
    self.inputs += 1
    path = self.directory / f'input{self.inputs}'
    path.write_bytes(data)
    return subprocess.Popen([KMCL, 'ioctl', '--bus', self.bus, '--in-file', path, '--out', str(out), '--format', 'raw',
                             device, code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

  @staticmethod
  def finish_ioctl(process):
    answer, error = process.communicate(timeout=PATIENCE)
    return answer if process.returncode == 0 else error.decode()

  def ioctl(self, *words, **more):
    """The answer as bytes, or as text why there is none."""
    return self.finish_ioctl(self.start_ioctl(*words, **more))

  def write(self, offset, data):
    return self.ioctl('BlockClient0', WRITE, struct.pack('<Q', offset) + data)

  def read(self, offset, count):
    return self.ioctl('BlockClient0', READ, struct.pack('<Q', offset), out=count)

  def test(self, **changes):
    wanted = {'seed': 1, 'depth': 32, 'requests': 400, 'least': 4096, 'most': MIB, 'read_percent': 40, **changes}
    return self.ioctl('BlockClient0', TEST, struct.pack('<6I', *wanted.values()))

  def tested(self, **changes):
    """What a test run counted; it must have run."""
    answer = self.test(**changes)
    assert isinstance(answer, bytes), answer
    return struct.unpack('<8QiI', answer)


def expect_status(result, status):
  assert isinstance(result, str) and f'{status:08x}' in result.lower(), result


def ping_with(driver, device):
  with Place() as place:
    server = place.server('echo')
    client = place.run(driver)
    runs = [(count, size, depth) for depth in (0, 1, 32) for count, size in ((200, 8), (50, 61440))]
    for count, size, depth in runs:
      answer = place.ioctl(device, PING_RUN, struct.pack('<4I', count, size, depth, 0))
      answered, wrong, failed, elapsed, shortest, longest, total, first, _ = struct.unpack('<7QiI', answer)
      assert (answered, wrong, failed, first) == (count, 0, 0, 0), answer
      assert 0 < shortest <= total // count <= longest <= elapsed, (shortest, total, longest, elapsed)
    statistics = struct.unpack('<6Q', place.ioctl(device, PING_STATISTICS))
    assert statistics == (len(runs), 750, 0, 0, 2 * sum(count * size for count, size, _ in runs), 0), statistics
    for wrong in (0, 8, 0, 0), (1, 0, 0, 0), (1, 12, 0, 0), (1, 61448, 0, 0), (1, 8, 257, 0), (1, 8, 0, 1):
      expect_status(place.ioctl(device, PING_RUN, struct.pack('<4I', *wrong)), 0xC000000D)
    expect_status(place.ioctl(device, PING_RUN, bytes(15)), 0xC0000023)
    expect_status(place.ioctl(device, PING_RUN, bytes(16), out=63), 0xC0000023)
    expect_status(place.ioctl(device, PING_STATISTICS, out=47), 0xC0000023)
    expect_status(place.ioctl(device, control(0xA02)), 0xC0000010)
    # The server goes while a run is under way: it ends, and the device with it.
    request = place.start_ioctl(device, PING_RUN, struct.pack('<4I', 1 << 30, 8, 32, 0))
    while struct.unpack('<6Q', place.ioctl(device, PING_STATISTICS))[5] == 0:
      assert request.poll() is None, request.communicate()
    place.end(server)
    result = struct.unpack('<7QiI', place.finish_ioctl(request))
    # How many had their answer by then is chance.
    assert result[1] == 0 and result[2] > 0, result
    assert 'removed' in place.end(client)


def ping_driver_measures_round_trips():
  ping_with('pingclient', 'PingClient0')


def kmdf_ping_driver_measures_round_trips():
  ping_with('pingclient_kmdf', 'PingClientKmdf0')


def disk_keeps_what_is_written():
  with Place() as place:
    server = place.block_server()
    assert 'io_uring' in server.said or 'threads' in server.said, server.said
    client = place.run('blockclient')
    identity = struct.unpack('<QiIQ6I', place.ioctl('BlockClient0', IDENTIFY))
    assert identity[1:] == (0, 0, 64 * MIB, 4096, MIB, 256, 64, 0, 0), identity
    image = bytearray(64 * MIB)
    choose = random.Random(5)
    for size in (4096, 8192, 65536, 262144, MIB, MIB, 12288):
      offset = choose.randrange((64 * MIB - size) // 4096) * 4096
      data = choose.randbytes(size)
      image[offset:offset + size] = data
      assert place.write(offset, data) == b'', (offset, size)
      assert place.read(offset, size) == data, (offset, size)
    assert place.ioctl('BlockClient0', FLUSH) == b''
    assert hashlib.sha256(place.disk.read_bytes()).digest() == hashlib.sha256(image).digest()
    place.end(client)
    place.end(server)
    # The next server has the same disk.
    server = place.block_server()
    client = place.run('blockclient')
    assert place.read(offset, size) == data
    place.end(client)
    place.end(server)


def random_blocks_are_what_was_written():
  with Place() as place:
    for words in (), ('--set', 'Threads=1'), ('--set', 'Depth=4'):
      server = place.block_server(*words)
      client = place.run('blockclient')
      for seed in 1, 2:
        result = place.tested(seed=seed)
        reads, writes, read, written, verified, wrong, failed, _, first, _ = result
        assert (wrong, failed, first) == (0, 0, 0), result
        assert reads + writes >= 400 and verified * 4096 > written / 2, result
      place.end(client)
      place.end(server)


def requests_that_make_no_sense_have_their_statuses():
  with Place() as place:
    server = place.block_server(size=MIB)
    client = place.run('blockclient')
    expect_status(place.write(MIB, bytes(4096)), 0xC0000015)
    expect_status(place.read(MIB - 4096, 8192), 0xC0000015)
    expect_status(place.read(1 << 63, 4096), 0xC0000015)
    for offset, count in (0, 512), (1, 4096), (0, 2 * MIB):
      expect_status(place.read(offset, count), 0xC000000D)
      expect_status(place.write(offset, bytes(count)), 0xC000000D)
    expect_status(place.ioctl('BlockClient0', READ, bytes(7)), 0xC0000023)
    expect_status(place.ioctl('BlockClient0', WRITE, bytes(7)), 0xC0000023)
    expect_status(place.ioctl('BlockClient0', IDENTIFY, out=47), 0xC0000023)
    expect_status(place.ioctl('BlockClient0', TEST, bytes(23)), 0xC0000023)
    expect_status(place.test(depth=0), 0xC000000D)
    expect_status(place.ioctl('BlockClient0', control(0xB05)), 0xC0000010)
    assert place.read(0, 4096) == bytes(4096)
    place.end(client)
    place.end(server)


def read_only_disk_is_not_written():
  with Place() as place:
    server = place.block_server('--set', 'ReadOnly=1', size=MIB)
    client = place.run('blockclient')
    assert struct.unpack('<QiIQ6I', place.ioctl('BlockClient0', IDENTIFY))[8] == 1
    expect_status(place.write(0, bytes(4096)), 0xC00000A2)
    assert place.read(0, MIB) == bytes(MIB)
    place.end(client)
    place.end(server)


def full_disk_says_so_and_goes_on():
  def limit():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Above what the process itself has as guest memory.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096 * MIB, resource.RLIM_INFINITY))

  with Place() as place:
    for words in (), ('--set', 'Threads=1'):
      server = place.block_server(*words, size=4200 * MIB, preexec_fn=limit)
      client = place.run('blockclient')
      expect_status(place.write(4100 * MIB, bytes(65536)), 0xC000007F)
      assert place.write(4096 * MIB - 4096, b'x' * 4096) == b''
      assert place.read(4096 * MIB - 4096, 8192) == b'x' * 4096 + bytes(4096)
      place.end(client)
      place.end(server)


def server_that_goes_under_load_takes_its_device_along():
  with Place() as place:
    server = place.block_server()
    client = place.run('blockclient')
    request = place.start_ioctl('BlockClient0', TEST, struct.pack('<6I', 1, 32, 1 << 30, 4096, 65536, 50))
    before = place.disk.stat().st_mtime_ns
    while place.disk.stat().st_mtime_ns == before:  # writes are under way
      assert request.poll() is None, request.communicate()
    place.end(server)
    place.finish_ioctl(request)
    said = ''
    while 'removed' not in said:
      line = client.stdout.readline()
      assert line, said
      said += line
    place.end(client)


def disk_goes_on_when_its_server_is_replaced_under_load():
  with Place() as place:
    server = place.block_server()
    client = place.run('blockclient')
    request = place.start_ioctl('BlockClient0', TEST, struct.pack('<6I', 7, 32, 12000, 4096, 65536, 40))
    replaced = 0
    while request.poll() is None:
      before = place.disk.stat().st_mtime_ns
      while place.disk.stat().st_mtime_ns == before and request.poll() is None:  # writes are under way
        pass
      successor = place.block_server('--takeover')
      assert 'taken over' in successor.said, successor.said
      assert 'handed over' in place.ended(server)
      server, replaced = successor, replaced + 1
    reads, writes, read, written, verified, wrong, failed, _, first, _ = struct.unpack('<8QiI', place.finish_ioctl(request))
    assert (wrong, failed, first) == (0, 0, 0) and reads + writes >= 12000 and verified != 0, (reads, writes, wrong, failed)
    assert replaced >= 1
    assert 'rescinded' not in place.end(client)
    place.end(server)


def client_that_is_killed_under_load_leaves_the_server_alone():
  with Place() as place:
    server = place.block_server()
    for how in signal.SIGINT, signal.SIGKILL:
      client = place.run('blockclient')
      request = place.start_ioctl('BlockClient0', TEST, struct.pack('<6I', 1, 32, 1 << 30, 4096, 65536, 50))
      before = place.disk.stat().st_mtime_ns
      while place.disk.stat().st_mtime_ns == before:
        assert request.poll() is None, request.communicate()
      client.send_signal(how)
      place.finish_ioctl(request)
      if how == signal.SIGINT:
        place.ended(client)
      else:
        client.communicate(timeout=PATIENCE)
    client = place.run('blockclient')
    assert place.tested()[5:7] == (0, 0)
    place.end(client)
    place.end(server)


def disk_that_cannot_be_offered_says_why():
  with Place() as place:
    for words, status, hint in (
        ((), 0xC0000034, 'Path'), (('--set', 'Path=7'), 0xC0000024, 'Path'),
        (('--set', 'Path=/nonexistent'), 0xC0000034, '/nonexistent'),
        (('--set', f'Path={place.directory}'), 0xC0000024, str(place.directory)),
        (('--set', 'Path=/dev/null', '--set', 'Depth=many'), 0xC0000024, 'parameter'),
        (('--set', 'Path=/dev/null', '--set', 'Instance=7'), 0xC0000024, 'parameter'),
        (('--set', 'Path=/dev/null', '--set', 'Instance=seven'), 0xC000000D, 'parameter')):
      server = place.server('blockdev', *words)
      assert f'{status:08x}' in server.said.lower() and hint in server.said, (words, server.said)
      place.end(server)


def scsi_controller_is_offered_and_taken_back():
  instance = '12345678-9abc-def0-1122-334455667788'
  with Place() as place:
    with open(place.disk, 'wb') as disk:
      disk.truncate(MIB)
    for words in (), ('--set', 'Threads=1', '--set', 'ReadOnly=1', '--set', 'Depth=1', '--set', 'Subchannels=31'):
      server = place.server('storvsp', '--set', f'Path={place.disk}', '--set', f'Instance={{{instance}}}', *words)
      listed = subprocess.run([KMCL, 'ls', '--bus', place.bus], stdout=subprocess.PIPE, text=True, check=True).stdout
      assert 'SCSI controller' in listed and instance in listed, listed
      successor = place.server('storvsp', '--takeover', '--set', f'Path={place.disk}', '--set', f'Instance={{{instance}}}', *words)
      assert 'taken over' in successor.said, successor.said
      assert 'handed over' in place.ended(server)
      place.end(successor)
    for words, status, hint in (
        ((), 0xC0000034, 'Path'), (('--set', 'Path=/nonexistent'), 0xC0000034, '/nonexistent: no such file'),
        (('--set', f'Path={place.disk}', '--set', 'Subchannels=32'), 0xC000000D, 'subchannels'),
        (('--set', f'Path={place.disk}', '--set', 'Depth=4097'), 0xC000000D, 'depth 4097'),
        (('--set', f'Path={place.disk}', '--set', 'Depth=many'), 0xC0000024, 'parameter')):
      server = place.server('storvsp', *words)
      assert f'{status:08x}' in server.said.lower() and hint in server.said, (words, server.said)
      place.end(server)


QUERY, BEAT, ASK, SET_CLOCK, KVP_SET, KVP_GET, KVP_QUERY, TYPE = (control(0xC00 + number) for number in range(8))
# The device, its type, and whether its offer is a pipe.
COMPONENTS = {
    'heartbeat': ('Heartbeat0', '57164f39-9115-4e78-ab55-382f3bd5422d', True),
    'shutdown': ('Shutdown0', '0e0b6031-5213-4934-818b-38d90ced39db', True),
    'timesync': ('Timesync0', '9527e630-d0ae-497b-adce-e80ab0175caf', True),
    'kvp': ('Kvp0', 'a9a0f4e7-5a45-4d96-b827-8a841e8c03e6', True),
    'keyboard': ('Keyboard0', 'f912ad6d-2b17-48ea-bd65-f927a61c7684', False)}


def components_are_offered_and_answer_their_users():
  not_ready = 0xC00000A3
  for driver, (device, kind, pipe) in COMPONENTS.items():
    with Place() as place:
      server = place.server(driver)
      offers = subprocess.run([KMCL, 'ls', '--bus', place.bus], capture_output=True, text=True, check=True).stdout
      assert kind in offers and ('flags    0x0011' in offers) == pipe, offers
      state = place.ioctl(device, QUERY, out=64)
      assert isinstance(state, bytes) and not any(state), state
      expect_status(place.ioctl(device, QUERY, out=8), 0xC0000023)
      expect_status(place.ioctl(device, control(0xC10)), 0xC0000010)
      if driver == 'heartbeat':
        assert place.ioctl(device, BEAT, out=64) == bytes(32)
      elif driver == 'shutdown':
        expect_status(place.ioctl(device, ASK, struct.pack('<2I', 0, 0)), not_ready)
        expect_status(place.ioctl(device, ASK, struct.pack('<2I', 3, 0)), 0xC000000D)
        expect_status(place.ioctl(device, ASK, bytes(7)), 0xC0000023)
      elif driver == 'timesync':
        assert place.ioctl(device, SET_CLOCK, out=0) == b''
      elif driver == 'keyboard':
        expect_status(place.ioctl(device, TYPE, b'text'), not_ready)
        expect_status(place.ioctl(device, TYPE, 'ö'.encode()), 0xC00000F0)
        expect_status(place.ioctl(device, TYPE, b'a\0b'), 0xC000000D)
      else:
        for code, data in ((KVP_SET, b'key\0value'), (KVP_SET, b'key\0'), (KVP_GET, b'key'), (KVP_GET, b'\0')):
          expect_status(place.ioctl(device, code, bytes(4) + data), 0xC000000D)
        expect_status(place.ioctl(device, KVP_GET, struct.pack('<I', 4) + b'key\0'), 0xC000000D)
        expect_status(place.ioctl(device, KVP_GET, bytes(3)), 0xC0000023)
        # There is no guest: it waits, until the driver goes.
        waiting = place.start_ioctl(device, KVP_SET, bytes(4) + b'key\0value\0')
        while struct.unpack('<I4x2Q', place.ioctl(device, KVP_QUERY, out=24)) != (1, 0, 0):
          assert waiting.poll() is None, waiting.communicate()
        place.end(server)
        assert isinstance(place.finish_ioctl(waiting), str)
        continue
      place.end(server)


TESTS = [ping_driver_measures_round_trips, kmdf_ping_driver_measures_round_trips, disk_keeps_what_is_written,
         random_blocks_are_what_was_written, requests_that_make_no_sense_have_their_statuses,
         read_only_disk_is_not_written, full_disk_says_so_and_goes_on,
         server_that_goes_under_load_takes_its_device_along, disk_goes_on_when_its_server_is_replaced_under_load,
         client_that_is_killed_under_load_leaves_the_server_alone, disk_that_cannot_be_offered_says_why,
         scsi_controller_is_offered_and_taken_back,
         components_are_offered_and_answer_their_users]
TESTS = [test for test in TESTS if not MARK or test.__name__ in MARK]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
