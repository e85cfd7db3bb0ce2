# SPDX-License-Identifier: MIT
"""Runs the programs of BUILD/bench: instruction counts by callgrind, and times in interleaved rounds.

A machine in a cloud moves its processors about and gives them to others for milliseconds. So programs of one comparison
take turns, each reports the median of blocks of 1,000 packets, and a run in which the way of a cache line between the two
processors changed by more than LINE_CHANGE is left out, as is one that had another distance than most (LINE_CLASS).
"""
import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

LINE_CHANGE = 1.3
LINE_CLASS = 1.5
LONGEST_RUN_S = 120
# Who may fail: the row goes on without. All others are ours or the system's.
GUESTS = {'zeromq', 'nng', 'iceoryx'}
# The C library copies by routines that it chooses for the processor. With these it has one choice, on every processor.
ONE_LIBC = {'GLIBC_TUNABLES': 'glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM,-SSSE3'}


class Failed(Exception):
  pass


class Bench:

  def __init__(self, build, rounds, one_libc=False):
    self.build = Path(build)
    self.folder = self.build / 'bench'
    self.rounds = rounds
    self.environment = os.environ | (ONE_LIBC if one_libc else {})  # of what callgrind counts
    self.roudi = None
    self.dropped = []  # what failed of GUESTS, in its own words

  def has(self, program):
    return (self.folder / program).exists()

  def start_roudi(self):
    """The daemon that iceoryx needs; True if it runs."""
    if self.roudi is None and self.has('iceoryx'):
      try:
        self.roudi = subprocess.Popen(['iox-roudi', '-m', 'off', '-l', 'off'], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
      except OSError:
        return False
      if 'ready' not in self.roudi.stdout.readline():
        self.stop_roudi()
    return self.roudi is not None and self.roudi.poll() is None

  def stop_roudi(self):
    if self.roudi is not None:
      self.roudi.terminate()
      self.roudi.wait()
      self.roudi = None

  # ---- instructions -------------------------------------------------------------------------

  def callgrind(self, program, arguments, *options):
    with tempfile.NamedTemporaryFile() as out:
      try:
        subprocess.run(['valgrind', '--tool=callgrind', '--quiet', f'--callgrind-out-file={out.name}', *options,
                        self.folder / program, *map(str, arguments)], check=True, timeout=LONGEST_RUN_S,
                       env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       text=True)
      except subprocess.CalledProcessError as error:
        raise Failed(f'{program} {" ".join(map(str, arguments))} below valgrind: {error.stderr.strip()}') from error
      return out.read().decode()

  def _total(self, program, arguments):
    for line in self.callgrind(program, arguments).splitlines():
      if line.startswith(('totals:', 'summary:')):
        return int(line.split()[1])
    raise Failed('callgrind left no total')

  def instructions(self, program, arguments, packets):
    """Of one more packet: start and end of the program are in both runs. `arguments(count)` gives a run's."""
    return (self._total(program, arguments(3 * packets)) - self._total(program, arguments(packets))) / (2 * packets)

  def ring_instructions(self, ring, payload, batch, packets):
    """Of one packet written and read, without the harness."""
    def arguments(count):
      return 'count', payload, batch, count
    return (self.instructions(f'ring_{ring}', arguments, packets) -
            self.instructions('ring_harness', arguments, packets))

  def barriers(self, program, arguments, packets):
    """Full barriers and locked instructions of one more packet: callgrind says how often each address ran."""
    return (self._barriers(program, arguments(3 * packets)) - self._barriers(program, arguments(packets))) / (2 * packets)

  def _barriers(self, program, arguments):
    counts, objects, found, here = {}, {}, 0, None
    text = self.callgrind(program, arguments, '--dump-instr=yes', '--compress-pos=no', '--compress-strings=no')
    is_call = False
    for line in text.splitlines():
      if line.startswith('ob='):
        here = line[3:]
      elif line.startswith('calls='):
        is_call = True
      elif line.startswith('0x'):
        if not is_call:  # the line behind calls= has what the callee cost
          address, _, cost = line.split()[:3]
          key = here, int(address, 16)
          counts[key] = counts.get(key, 0) + int(cost)
        is_call = False
    for path, address in counts:
      if path not in objects:
        objects[path] = locked_addresses(path)
      if address in objects[path]:
        found += counts[path, address]
    return found

  # ---- times --------------------------------------------------------------------------------

  def run(self, program, arguments):
    """One run: the object that it prints."""
    command = [self.folder / program, *map(str, arguments)]
    try:
      return json.loads(subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, timeout=LONGEST_RUN_S).stdout)
    except subprocess.CalledProcessError as error:
      raise Failed(f'{" ".join(map(str, command))}: {error.stderr.strip()}') from error
    except subprocess.TimeoutExpired as error:
      raise Failed(f'{" ".join(map(str, command))}: not done after {LONGEST_RUN_S} s') from error

  def interleave(self, jobs, rounds=None):
    """jobs: name: (program, arguments). Each job once in a round. Returns name: Samples; what is not there is left out.
    Rounds go on up to three times as long while a job has too few runs that count.
    """
    jobs = {name: job for name, job in jobs.items()
            if self.has(job[0]) and (job[0] != 'iceoryx' or self.start_roudi())}
    samples = {name: Samples() for name in jobs}
    wanted = rounds or self.rounds
    for turn in range(3 * wanted):
      if turn >= wanted and all(s.enough(wanted) for s in samples.values()):
        break
      for name in list(samples):
        program, arguments = jobs[name]
        if turn >= wanted and samples[name].enough(wanted):
          continue
        try:
          samples[name].add(self.run(program, arguments))
        except Failed as error:
          if program not in GUESTS:
            raise
          self.dropped.append(str(error))
          del samples[name]
    return samples


def locked_addresses(path):
  """Addresses of instructions that are full barriers: mfence, lock prefixes, exchanges with memory."""
  if not os.path.exists(path):
    return frozenset()
  text = subprocess.run(['objdump', '-d', '--no-show-raw-insn', path], check=True, stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL, text=True).stdout
  barrier = re.compile(r'^\s*([0-9a-f]+):\s+(?:mfence|lock\b|xchg\s.*\()', re.MULTILINE)
  return frozenset(int(match.group(1), 16) for match in barrier.finditer(text))


class Samples:
  """Runs of one job, and which of them count."""

  def __init__(self):
    self.runs = []

  def add(self, run):
    self.runs.append(run)

  def counted(self):
    def line(run):
      return (run['line_before_ns'] + run['line_after_ns']) / 2
    steady = [run for run in self.runs if is_steady(run)]
    if not steady or 'line_before_ns' not in steady[0]:
      return steady
    usual = statistics.median(map(line, steady))
    return [run for run in steady if usual / LINE_CLASS <= line(run) <= usual * LINE_CLASS]

  def enough(self, wanted):
    return len(self.counted()) >= (wanted + 1) // 2

  def value(self, key, unit=1):
    """Median, least, largest, how many counted, how many ran. All runs where none was steady, and `noisy` says so."""
    runs = self.counted()
    noisy = not runs
    values = [run[key] / unit for run in runs or self.runs]
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values), 'n': len(values),
            'runs': len(self.runs), 'noisy': noisy}


def is_steady(run):
  before, after = run.get('line_before_ns', 0), run.get('line_after_ns', 0)
  return before <= after * LINE_CHANGE and after <= before * LINE_CHANGE
