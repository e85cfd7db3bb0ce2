#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures, prints a table for people and writes BUILD/bench/results.json for programs.

Instructions are counted by callgrind and hardly vary; times vary with the machine and its load. So
kmcl_peer and seqpacket take turns over several rounds: the tables show medians of the rounds, with the
least and the largest in brackets, and how many times as long the socket took.
"""
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PAYLOADS = 16, 64, 256, 1024
BATCHES = 1, 32
PACKETS = 32 * 1000

ROUNDS = 5
PROGRAMS = {'kmcl': 'bench/kmcl_peer', 'socket': 'bench/seqpacket'}
PLACEMENTS = {'any': 'anywhere', 'same': 'one CPU', 'split': 'two CPUs'}
NEVER_SPIN = 0,  # a further argument of `kmcl_peer sync`
SYNC_COUNT = 20000
INFLIGHT_COUNT = 100000
IN_FLIGHT = 32
TRANSFERS = {4096: 20000, 65536: 8000, 1 << 20: 800}  # bytes: how many
TRANSFER_DEPTH = 8
LONGEST_RUN_S = 60


def instructions(program, mode, payload, batch, packets=PACKETS):
  """All instructions that one run of ring_instructions executes."""
  with tempfile.NamedTemporaryFile() as out:
    subprocess.run(['valgrind', '--tool=callgrind', '--quiet', f'--callgrind-out-file={out.name}',
                    program, mode, str(payload), str(batch), str(packets)],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for line in out.read().decode().splitlines():
      if line.startswith(('totals:', 'summary:')):
        return int(line.split()[1])
  raise SystemExit('callgrind left no total')


def ring(program):
  """Instructions to write and read one packet, without the loop, start and end of the program."""
  rows = []
  for batch in BATCHES:
    for payload in PAYLOADS:
      harness = instructions(program, 'harness', payload, batch)
      row = {'batch': batch, 'payload_bytes': payload}
      for mode in 'inplace', 'copy':
        row[mode] = round((instructions(program, mode, payload, batch) - harness) / PACKETS, 1)
      rows.append(row)
  return rows


def run_peer(program, arguments):
  """One run of kmcl_peer or seqpacket: the object that it prints."""
  return json.loads(subprocess.run([program, *map(str, arguments)], check=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   timeout=LONGEST_RUN_S).stdout)


def over_rounds(runs):
  """Equal members as they are; for one that varies, its median, least and largest value."""
  merged = {}
  for key in runs[0]:
    values = [run[key] for run in runs]
    if key in ('payload_bytes', 'count', 'depth', 'placement', 'access'):
      merged[key] = values[0]
    else:
      merged[key] = {'median': statistics.median(values), 'min': min(values), 'max': max(values)}
  return merged


def peers(build, jobs):
  """Every job by every program, one after the other in each round: load then hits all of them.

  A job is what both programs are told, and what kmcl_peer is told besides.
  """
  runs = {(job, name): [] for job in jobs for name in PROGRAMS}
  for _ in range(ROUNDS):
    for job, name in runs:
      arguments = sum(job, ()) if name == 'kmcl' else job[0]
      runs[job, name].append(run_peer(build / PROGRAMS[name], arguments))
  return [{'job': ' '.join(map(str, sum(job, ()))), 'never_spins': job[1] == NEVER_SPIN,
           **{name: over_rounds(runs[job, name]) for name in PROGRAMS}} for job in jobs]


def machine():
  cpu = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
         if line.startswith('model name')]
  return {'cpu': cpu[0] if cpu else platform.machine(), 'cpus': len(os.sched_getaffinity(0)),
          'kernel': platform.release(), 'load_before': os.getloadavg()[0]}


def table(title, columns, rows):
  cells = [columns] + [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  print(f'\n{title}')
  for row in cells:
    print('  ' + '  '.join(cell.rjust(width) for cell, width in zip(row, widths)))


def spread(values, unit=1, digits=2):
  return (f'{values["median"] / unit:.{digits}f} '
          f'[{values["min"] / unit:.{digits}f}-{values["max"] / unit:.{digits}f}]')


def median(result, name, key, unit=1):
  return result[name][key]['median'] / unit


def ratio(result, key):
  """Above 1: the socket is the slower one."""
  kmcl = median(result, 'kmcl', key)
  return f'{median(result, "socket", key) / kmcl:.2f}' if kmcl else '-'


def print_ring(rows):
  least = {row['batch']: row['inplace'] for row in reversed(rows)}  # of the smallest payload
  table('Ring: instructions per packet written and read',
        ['batch', 'payload', 'in place', 'copy', 'copy/in place', 'in place/smallest'],
        [[r['batch'], r['payload_bytes'], r['inplace'], r['copy'],
          f'{r["copy"] / r["inplace"]:.2f}', f'{r["inplace"] / least[r["batch"]]:.2f}'] for r in rows])


def print_sync(results):
  table('64 bytes there and back between two processes, one at a time: us',
        ['processes', 'kmcl spins', 'kmcl p50', 'socket p50', 'ratio', 'kmcl p99', 'socket p99', 'kmcl mean',
         'socket mean', 'ratio', 'signals/1000 packets'],
        [[PLACEMENTS[r['kmcl']['placement']], 'never' if r['never_spins'] else 'default',
          spread(r['kmcl']['p50_ns'], 1000), spread(r['socket']['p50_ns'], 1000),
          ratio(r, 'p50_ns'),
          f'{median(r, "kmcl", "p99_ns", 1000):.1f}', f'{median(r, "socket", "p99_ns", 1000):.1f}',
          f'{median(r, "kmcl", "ns_each", 1000):.2f}', f'{median(r, "socket", "ns_each", 1000):.2f}',
          ratio(r, 'ns_each'), spread(r['kmcl']['signals_per_1000'], digits=0)]
         for r in results])


def print_inflight(results):
  table(f'64 bytes there and back, {IN_FLIGHT} in flight: ns each',
        ['kmcl', 'socket', 'ratio', 'kmcl CPU', 'socket CPU', 'client signals/1000 packets',
         'server signals/1000 packets'],
        [[spread(r['kmcl']['ns_each'], digits=0), spread(r['socket']['ns_each'], digits=0),
          ratio(r, 'ns_each'), f'{median(r, "kmcl", "cpu_ns_each"):.0f}',
          f'{median(r, "socket", "cpu_ns_each"):.0f}',
          spread(r['kmcl']['client_signals_per_1000'], digits=0),
          spread(r['kmcl']['server_signals_per_1000'], digits=0)]
         for r in results])


def print_external(results):
  table(f'External data one way, {TRANSFER_DEPTH} in flight, the receiver touches or reads it: us each',
        ['KiB', 'receiver', 'kmcl', 'socket', 'ratio', 'kmcl MB/s', 'socket MB/s', 'kmcl CPU us',
         'socket CPU us', 'signals/1000 packets'],
        [[r['kmcl']['payload_bytes'] // 1024,
          {'touch': 'touches', 'read': 'reads'}[r['kmcl']['access']],
          spread(r['kmcl']['ns_each'], 1000, 1), spread(r['socket']['ns_each'], 1000, 1),
          ratio(r, 'ns_each'), f'{median(r, "kmcl", "mb_per_s"):.0f}',
          f'{median(r, "socket", "mb_per_s"):.0f}', f'{median(r, "kmcl", "cpu_ns_each", 1000):.1f}',
          f'{median(r, "socket", "cpu_ns_each", 1000):.1f}',
          spread(r['kmcl']['signals_per_1000'], digits=0)]
         for r in results])


def main():
  build = Path(sys.argv[1])
  here = machine()
  # With one CPU nothing ever spins and there are no two to be placed on.
  sync = ([('any', ()), ('any', NEVER_SPIN), ('same', ()), ('split', ()), ('split', NEVER_SPIN)]
          if here['cpus'] > 1 else [('any', ())])
  results = {
      'machine': here,
      'rounds': ROUNDS,
      'sync': peers(build, [(('sync', 64, SYNC_COUNT, placement), spin)
                            for placement, spin in sync]),
      'inflight': peers(build, [(('inflight', 64, INFLIGHT_COUNT, IN_FLIGHT), ())]),
      'external': peers(build, [(('external', size, count, TRANSFER_DEPTH, access), ())
                                for size, count in TRANSFERS.items()
                                for access in ('touch', 'read')]),
      'ring_instructions': ring(build / 'bench/ring_instructions'),
  }
  here['load_after'] = os.getloadavg()[0]

  print(f'{here["cpu"]}, {here["cpus"]} CPUs, Linux {here["kernel"]}, '
        f'load {here["load_before"]:.1f} before and {here["load_after"]:.1f} after')
  print(f'Median of {ROUNDS} rounds [least-largest]; ratio: socket / kmcl')
  print_sync(results['sync'])
  print_inflight(results['inflight'])
  print_external(results['external'])
  print_ring(results['ring_instructions'])

  path = build / 'bench/results.json'
  path.write_text(json.dumps(results, indent=2) + '\n')
  print(f'\n{path}')


if __name__ == '__main__':
  main()
