#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures, prints a table for people and writes BUILD/bench/results.json for programs.

Instructions are counted by callgrind and hardly vary; times vary with the machine and its load.
"""
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

PAYLOADS = 16, 64, 256, 1024
BATCHES = 1, 32
PACKETS = 32 * 1000
ROUND_TRIPS = 100000


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


def seqpacket(program):
  return [json.loads(subprocess.run([program, '64', str(ROUND_TRIPS), placement], check=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout)
          for placement in ('any', 'same', 'split')]


def machine():
  cpu = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
         if line.startswith('model name')]
  return {'cpu': cpu[0] if cpu else platform.machine(), 'cpus': len(os.sched_getaffinity(0)),
          'kernel': platform.release()}


def table(title, columns, rows):
  cells = [columns] + [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  print(f'\n{title}')
  for row in cells:
    print('  ' + '  '.join(cell.rjust(width) for cell, width in zip(row, widths)))


def main():
  build = Path(sys.argv[1])
  results = {'machine': machine(),
             'ring_instructions': ring(build / 'bench/ring_instructions'),
             'seqpacket': seqpacket(build / 'bench/seqpacket')}

  here = results['machine']
  print(f'{here["cpu"]}, {here["cpus"]} CPUs, Linux {here["kernel"]}')
  rows = results['ring_instructions']
  least = {row['batch']: row['inplace'] for row in reversed(rows)}  # of the smallest payload
  table('Ring: instructions per packet written and read',
        ['batch', 'payload', 'in place', 'copy', 'copy/in place', 'in place/smallest'],
        [[r['batch'], r['payload_bytes'], r['inplace'], r['copy'],
          f'{r["copy"] / r["inplace"]:.2f}', f'{r["inplace"] / least[r["batch"]]:.2f}'] for r in rows])
  rows = results['seqpacket']
  table('AF_UNIX SOCK_SEQPACKET: 64 bytes there and back between two processes',
        ['processes', 'p50 us', 'p99 us', 'p99/p50', 'round trips/s'],
        [[{'any': 'anywhere', 'same': 'one CPU', 'split': 'two CPUs'}[r['placement']],
          f'{r["p50_ns"] / 1000:.2f}', f'{r["p99_ns"] / 1000:.2f}',
          f'{r["p99_ns"] / r["p50_ns"]:.1f}', r['round_trips_per_s']] for r in rows])

  path = build / 'bench/results.json'
  path.write_text(json.dumps(results, indent=2) + '\n')
  print(f'\n{path}')


if __name__ == '__main__':
  main()
