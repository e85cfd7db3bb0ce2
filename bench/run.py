#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make bench: the library next to its peers.

    run.py BUILD [--rows 1,2,6] [--rounds N]

Prints a table, and writes BUILD/bench/results.json and BUILD/bench/report.html.
"""
import argparse
import json
import os
import platform
import sys
from pathlib import Path

import report
import rows
from measure import Bench

ROUNDS = 7


def machine():
  cpu = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines()
         if line.startswith('model name')]
  return {'cpu': cpu[0] if cpu else platform.machine(), 'cpus': len(os.sched_getaffinity(0)),
          'kernel': platform.release(), 'load_before': os.getloadavg()[0]}


def number(value):
  if value is None:
    return '-'
  digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 or value == 0 else 4
  return f'{value:,.{digits}f}'


def bound(goal):
  if goal is None:
    return ''
  return f'>= {number(goal[1])}' if isinstance(goal, tuple) else f'<= {number(goal)}'


def goal_text(entry):
  """The goal; the moonshot."""
  moonshot = bound(entry['moonshot'])
  return bound(entry['goal']) + (f'; {moonshot}' if moonshot else '')


def line(entry):
  spread = entry['spread']
  peers = ', '.join(f'{name} {number(value)}' for name, value in entry['peers'].items())
  return [entry['row'], entry['what'], f'{number(entry["value"])} {entry["unit"]}'.strip(), goal_text(entry), entry['status'],
          f'{number(spread[0])} to {number(spread[1])}, n {spread[2]}' if spread else '', peers or entry.get('why', '')]


def print_table(figures):
  cells = [['row', 'work', 'value', 'goal', '', 'spread', 'peers']] + [line(entry) for entry in figures]
  widths = [max(len(row[i]) for row in cells) for i in range(6)]
  for row in cells:
    print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)) + '  ' + row[6])


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('build', type=Path)
  parser.add_argument('--rows', help='only these, with commas between them; 9 is measured with 8')
  parser.add_argument('--rounds', type=int, default=ROUNDS)
  options = parser.parse_args()
  names = set(options.rows.split(',')) if options.rows else None
  if names and not names <= {name for name, _, _ in rows.ROWS}:
    parser.error(f'rows are {", ".join(name for name, _, _ in rows.ROWS)}')

  here = machine()
  if here['cpus'] < 2 and not names:
    parser.error('rows 4 to 12 compare two processors and this process may use one; say --rows 1,2,3')
  bench = Bench(options.build, options.rounds)
  missing = [name for program, name in rows.PEERS.items() if not (bench.has(program) or bench.has(f'ring_{program}'))]
  try:
    figures = rows.measure(bench, names, lambda text: print(text, file=sys.stderr, flush=True))
  finally:
    bench.stop_roudi()
  here['load_after'] = os.getloadavg()[0]

  print(f'{here["cpu"]}, {here["cpus"]} CPUs, Linux {here["kernel"]}, '
        f'load {here["load_before"]:.1f} before and {here["load_after"]:.1f} after')
  print_table(figures)
  for name in missing:
    print(f'skipped: {name}, because its package is not installed (scripts/install-deps.sh peer-NAME)')
  for why in bench.dropped:
    print(f'left out of a row: {why}')
  counts = {state: sum(entry['status'] == state for entry in figures) for state in ('met', 'missed', 'skipped', 'failed')}
  print(', '.join(f'{count} {state}' for state, count in counts.items()))

  results = {'machine': here, 'rounds': options.rounds, 'skipped_peers': missing, 'figures': figures}
  (bench.folder / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
  (bench.folder / 'report.html').write_text(report.page(results))
  print(f'\n{bench.folder}/results.json\n{bench.folder}/report.html')
  return 1 if counts['failed'] else 0


if __name__ == '__main__':
  sys.exit(main())
