# SPDX-License-Identifier: MIT
"""The two machines of `make guest`, and orders to them.

L1 is QEMU's; an agent in it runs shell scripts that arrive on a virtio port. L2 is the guest of `kmcl vm` in L1; its
agent takes orders on the serial console, which is a virtio port of L1, and answers with kernel messages.

Every wait has an end. How long it takes never decides what a check says: a limit means that something hangs.
"""
import base64
import json
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts/guest'))
import images  # noqa: E402,F401  # pylint: disable=wrong-import-position,unused-import
import qemu  # noqa: E402  # pylint: disable=wrong-import-position

PATIENCE = 240  # seconds that anything may take which is not said to take longer


class Failed(Exception):
  """Why a check failed, in words."""


def compile_program(program, sources, flags):
  """With $CC, which may be a command with arguments."""
  command = [*shlex.split(os.environ.get('CC', 'gcc')), *flags, '-o', program, *sources]
  try:
    subprocess.run(command, check=True)
  except (OSError, subprocess.CalledProcessError) as why:
    raise Failed(f'{program} cannot be compiled: {why}') from why


class Stream:
  """What a machine writes on one of its ports: kept in a file, and searched as it comes."""

  def __init__(self, path, log):
    self.listener = socket.socket(socket.AF_UNIX)
    self.path = Path(path)
    self.listener.bind(str(self.path))
    self.listener.listen(1)
    self.log = open(log, 'wb', buffering=0)
    self.connection = None
    self.lock = threading.Condition()
    self.text = bytearray()
    self.ended = False
    self.thread = threading.Thread(target=self._read, daemon=True)
    self.thread.start()

  def _read(self):
    try:
      self.connection, _ = self.listener.accept()
      while True:
        data = self.connection.recv(65536)
        if not data:
          break
        self.log.write(data)
        with self.lock:
          self.text += data
          self.lock.notify_all()
    except OSError:
      pass
    with self.lock:
      self.ended = True
      self.lock.notify_all()

  def send(self, line):
    try:
      self.connection.sendall(line.encode())
    except (OSError, AttributeError):
      raise Failed(f'{self.path.name} is gone') from None

  def mark(self):
    """A place in the stream: now."""
    with self.lock:
      return len(self.text)

  def wait(self, pattern, since, seconds, what, alive=None, fatal=None):
    """The match of a pattern (bytes) behind `since`. Fails after so many seconds, when `alive()` is false, or when there is
    something `fatal`."""
    deadline = time.monotonic() + seconds
    compiled = re.compile(pattern)
    searched = since
    with self.lock:
      while True:
        match = compiled.search(self.text, searched)
        if match:
          return match
        if fatal and fatal in self.text[searched:]:
          raise Failed(f'{what}: {fatal.decode()}')
        # A match may have begun in what was searched; it does not span more than a line.
        searched = max(since, self.text.rfind(b'\n', 0, len(self.text)) + 1)
        if self.ended:
          raise Failed(f'{what}: the machine ended')
        left = deadline - time.monotonic()
        if left <= 0:
          raise Failed(f'{what}: nothing after {seconds} s')
        before = len(self.text)
        self.lock.wait(min(left, 1))
        if alive and len(self.text) == before and not alive():
          raise Failed(f'{what}: the guest ended')

  def wait_bytes(self, since, count, seconds):
    deadline = time.monotonic() + seconds
    with self.lock:
      while len(self.text) < since + count:
        if self.ended or time.monotonic() > deadline:
          raise Failed('an answer ended early')
        self.lock.wait(1)
      return bytes(self.text[since:since + count])

  def since(self, mark):
    with self.lock:
      return self.text[mark:].decode(errors='replace')

  def close(self):
    for end in (self.connection, self.listener):
      try:
        if end:
          end.shutdown(socket.SHUT_RDWR)
      except OSError:
        pass
      if end:
        end.close()
    self.path.unlink(missing_ok=True)


class L1:
  """A machine with KVM. Its logs and its sockets have names that begin with its own."""
  PORTS = ('control', 'vm', 'vmlog')

  def __init__(self, made, logs, sockets, name, memory=2048, processors=1):
    self.name = name
    self.orders = 0
    self.jobs = 0
    self.lock = threading.Lock()
    self.ports = {port: Stream(Path(sockets, f'{name}-{port}'), Path(logs, f'{name}-{port}.log'))
                  for port in ('console', *self.PORTS)}
    self.control, self.console = self.ports['control'], self.ports['console']
    more = ['-chardev', f'socket,id=console,path={self.ports["console"].path}', '-serial', 'chardev:console']
    for port in self.PORTS:
      more += ['-chardev', f'socket,id={port},path={self.ports[port].path}',
               '-device', f'virtserialport,chardev={port},name={port}']
    line = qemu.command(made, memory, processors, 'quiet', more)
    self.errors = open(Path(logs, f'{name}-qemu.log'), 'wb')
    # QEMU goes with us, however we end.
    self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                    preexec_fn=die_with_parent)

  def wait_until_up(self):
    self.control.wait(rb'@@ready\n', 0, PATIENCE, f'{self.name} does not boot', self.process_runs)

  def process_runs(self):
    return self.process.poll() is None

  def processor_time(self):
    """Seconds that QEMU has worked, on any processor: what a check costs however busy the machine is."""
    try:
      fields = Path(f'/proc/{self.process.pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
      return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

  def run(self, script, seconds=PATIENCE, check=True):
    """Runs a shell script in L1 and returns what it printed; fails if its status is not 0, unless told not to check."""
    output, status = self.run_status(script, seconds)
    if check and status != 0:
      raise Failed(f'`{script.strip().splitlines()[0]}` in L1 ended with status {status}: {output.strip()[-500:]}')
    return output

  def run_status(self, script, seconds=PATIENCE):
    with self.lock:
      self.orders += 1
      mark = self.control.mark()
      self.control.send(f'{self.orders} {seconds} {base64.b64encode(script.encode()).decode()}\n')
      # L1 ends a script by its own clock; ours only notices that L1 is gone.
      answer = self.control.wait(rb'@@%d (\d+) (\d+)\n' % self.orders, mark, seconds + PATIENCE,
                                 f'`{script.strip().splitlines()[0]}` in L1', self.process_runs)
      output = self.control.wait_bytes(answer.end(), int(answer[2]), PATIENCE)
      return output.decode(errors='replace'), int(answer[1])

  def start(self, command):
    """Starts a command in the background; its output goes to /run/jobs/N.log. Returns N."""
    self.jobs += 1
    job = f'/run/jobs/{self.jobs}'
    self.run(f'mkdir -p /run/jobs\n(setsid sh -c {quoted(f"echo $$ >{job}.pid; exec {command}")} <&- >{job}.log 2>&1;'
             f' echo $? >{job}.status) >/dev/null 2>&1 &\n'
             f'while [ ! -s {job}.pid ]; do usleep 10000; done')
    return self.jobs

  def kill(self, job, how='KILL'):
    self.run(f'kill -{how} $(cat /run/jobs/{job}.pid)', check=False)

  def ended(self, job, seconds=PATIENCE):
    """Waits for a job to end and returns its status."""
    return int(self.run(f'while [ ! -s /run/jobs/{job}.status ]; do usleep 50000; done; cat /run/jobs/{job}.status', seconds))

  def output(self, job):
    return self.run(f'cat /run/jobs/{job}.log')

  def wait_output(self, job, pattern, seconds=PATIENCE):
    """Waits until a job has printed something that egrep finds."""
    self.run(f'until grep -qE {quoted(pattern)} /run/jobs/{job}.log; do\n'
             f'[ ! -s /run/jobs/{job}.status ] || {{ echo "ended:"; tail -5 /run/jobs/{job}.log; exit 1; }}\n'
             'usleep 50000\ndone', seconds)

  def job_logs(self):
    return self.run('cd /run/jobs 2>/dev/null && for f in *.log; do echo "== $f"; tail -c 20000 $f; done', check=False)

  def close(self):
    if self.process.poll() is None:
      self.process.send_signal(signal.SIGTERM)
      try:
        self.process.wait(20)
      except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()
    for port in self.ports.values():
      port.close()
    self.errors.close()


class Guest:
  """L2: a machine of `kmcl vm` in L1. One at a time, because it has L1's port."""

  KERNEL = '/images/bzImage'
  INITRD = '/run/l2.cpio'
  TRACE = '/run/vm.trace'
  ALWAYS = 'console=ttyS0 loglevel=6 printk.devkmsg=on panic=-1 kmcl.agent'

  def __init__(self, l1, options='', modules='hv_vmbus,hv_storvsc,sd_mod,hv_utils', append='', memory=512):
    self.l1 = l1
    self.stream, self.log = l1.ports['vm'], l1.ports['vmlog']
    self.orders = 0
    self.begin = self.stream.mark()
    self.log_begin = self.log.mark()
    self.control = '/run/vm.sock'
    self.modules = modules
    self.is_gone = False
    self.command_line = f'{self.ALWAYS} kmcl.modules={modules} {append}'.strip()
    l1.run(f'rm -f {self.control} {self.TRACE}')
    self.job = l1.start(f'{self.command(options, memory)} 0<>/dev/virtio-ports/vm 1>&0 2>/dev/virtio-ports/vmlog')

  def command(self, options, memory):
    """What runs the machine in L1, with its console on stdin and stdout."""
    return (f'kmcl vm --kernel {self.KERNEL} --initrd {self.INITRD} --append "{self.command_line}" --memory {memory}'
            f' --control {self.control} --log {self.TRACE} {options}')

  def wait_until_up(self, since=None):
    self.wait(r'@@ready', PATIENCE, self.begin if since is None else since, what='L2 does not boot')
    self.orders = 0

  def runs(self):
    """Whether `kmcl vm` still is there; asked for only when the guest is silent."""
    return self.l1.run(f'[ -s /run/jobs/{self.job}.status ] || echo runs').strip() == 'runs'

  def mark(self):
    return self.stream.mark()

  def wait(self, pattern, seconds=PATIENCE, since=None, what=None):
    """Waits for something on the console."""
    return self.stream.wait(pattern.encode(), self.begin if since is None else since, seconds,
                            what or f'no "{pattern}" on the console', self.runs, b'Kernel panic')

  def run(self, script, seconds=PATIENCE, check=True):
    output, status = self.run_status(script, seconds)
    if check and status != 0:
      raise Failed(f'`{script}` in L2 ended with status {status}: {output.strip()[-500:]}')
    return output

  def run_status(self, script, seconds=PATIENCE):
    """Runs one line of shell in L2. The line is short: it goes through a terminal."""
    if '\n' in script or len(script) > 1000:
      raise ValueError('one short line')
    self.orders += 1
    mark = self.mark()
    self.stream.send(f'{self.orders} {seconds} {script}\n')
    end = self.wait(rf'@@{self.orders} = (\d+)', seconds + PATIENCE, mark, f'`{script}` in L2')
    text = self.stream.text[mark:end.start()].decode(errors='replace')
    lines = re.findall(rf'@@{self.orders}: ([^\r\n]*)', text)
    return ''.join(f'{line}\n' for line in lines), int(end[1])

  def ctl(self, command, seconds=PATIENCE):
    """An order to `kmcl vm` itself."""
    return self.l1.run(f'kmcl vmctl {self.control} {command}', seconds)

  def stats(self):
    return json.loads(self.ctl('stats'))

  def ended(self, seconds=PATIENCE):
    """Waits for `kmcl vm` to end and returns its exit status."""
    status = self.l1.ended(self.job, seconds)
    self.is_gone = True
    return status

  def close(self):
    """Ends it, if it still runs."""
    if not self.is_gone and self.l1.process_runs():
      self.l1.kill(self.job)
      self.l1.ended(self.job)
      self.is_gone = True

  def console_text(self):
    return self.stream.since(self.begin)

  def log_text(self):
    return self.log.since(self.log_begin)

  def trace_length(self):
    return int(self.l1.run(f'wc -c <{self.TRACE}'))

  def trace(self, since=0):
    """The bus trace: every control message, and what the library has to say. The end of it, if it is long."""
    return self.l1.run(f'tail -c +{since + 1} {self.TRACE} | tail -c 100000', check=False)


def quoted(text):
  return "'" + text.replace("'", "'\\''") + "'"


def die_with_parent():
  import ctypes  # pylint: disable=import-outside-toplevel
  ctypes.CDLL(None).prctl(1, signal.SIGKILL)
