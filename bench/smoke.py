#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make bench-smoke: instruction counts against bench/baseline.json, and each program of make bench for a moment.

    smoke.py BUILD [--record]

A count may be ALLOWED above its baseline. One that is as much below is reported, so that the baseline follows and the next
change is measured against it. --record writes the counts of this build into the baseline; the commit that does so says why.
Counts are those of every machine that has the same compiler: the C library does not choose by the processor.
No time decides anything here.
"""
import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import Bench, Failed

ALLOWED = 1.03
BASELINE = Path(__file__).with_name('baseline.json')
RINGS = [(ring, payload, batch) for ring in ('inplace', 'copy') for payload, batch in ((64, 8), (64, 1), (4096, 8))]
TRANSACTIONS = ('inband', 64, 32), ('inband', 64, 1), ('external', 65536, 8)
PACKETS = 4000

# The least that each program takes: it runs, and checks what comes out by itself.
RUNS = [
    *((f'ring_{ring}', (mode, 64, 8, 2000)) for ring in ('memcpy', 'bytes', 'inplace', 'local', 'copy', 'rte', 'vmbus')
      for mode in ('single', 'threads') if (ring, mode) != ('memcpy', 'threads')),
    *((peer, arguments) for peer in ('kmcl_peer', 'seqpacket', 'pipes', 'zeromq', 'nng', 'iceoryx', 'shared')
      for arguments in (('sync', 64, 200, 'split'), ('inflight', 64, 2000, 32))),
    ('kmcl_peer', ('sync', 64, 200, 'same', 0)),
    ('kmcl_peer', ('inflight', 64, 2000, 32, 'thread')),
    *((peer, ('external', 65536, 50, 8, access)) for peer in ('kmcl_peer', 'seqpacket', 'zeromq', 'shared', 'process_vm')
      for access in ('read', 'touch')),
    ('channels', ('idle', 16, 100)),
    ('channels', ('cycle', 100)),
]


def counts(bench):
  """name: instructions of one packet or transaction."""
  def ring(shape):
    return f'ring {shape[0]} {shape[1]} B in batches of {shape[2]}', bench.ring_instructions(*shape, PACKETS)

  def transaction(shape):
    kind, size, depth = shape
    return (f'transaction {kind} {size} B with {depth} in flight',
            bench.instructions('transaction', lambda count: (kind, size, count, depth), PACKETS))

  with ThreadPoolExecutor(2) as pool:
    jobs = [pool.submit(ring, shape) for shape in RINGS] + [pool.submit(transaction, shape) for shape in TRANSACTIONS]
    return {name: round(count, 1) for name, count in (job.result() for job in jobs)}


def compare(now, baseline):
  """Lines for people, and whether all is well."""
  well = now.keys() == baseline.keys()
  if not well:
    yield False, f'counts and {BASELINE.name} have different names; write it anew: bench/smoke.py BUILD --record'
  for name in sorted(now.keys() & baseline.keys()):
    change = now[name] / baseline[name]
    word = 'ok' if 1 / ALLOWED <= change <= ALLOWED else 'MORE' if change > 1 else 'less'
    yield change <= ALLOWED, f'{word:5}{name}: {now[name]:,.1f}, baseline {baseline[name]:,.1f} ({100 * (change - 1):+.1f} %)'


def run_all(bench):
  for program, arguments in RUNS:
    text = f'{program} {" ".join(map(str, arguments))}'
    if not bench.has(program) or (program == 'iceoryx' and not bench.start_roudi()):
      yield None, f'skip {text}: its package is not installed'
      continue
    try:
      bench.run(program, arguments)
    except Failed as error:
      yield False, f'FAIL {error}'
    else:
      yield True, f'ok   {text}'


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('build', type=Path)
  parser.add_argument('--record', action='store_true')
  options = parser.parse_args()
  bench = Bench(options.build, 1, one_libc=True)
  now = counts(bench)
  if options.record:
    BASELINE.write_text(json.dumps(now, indent=2) + '\n')
  results = list(compare(now, json.loads(BASELINE.read_text())))
  try:
    results += run_all(bench)
  finally:
    bench.stop_roudi()
  for _, text in results:
    print(text)
  if any(text.startswith('MORE') for _, text in results):
    print(f'More instructions than the baseline allows. Find them with callgrind (docs/performance.md), or, if they are worth '
          f'it, record them and say why in the commit: {sys.argv[0]} {options.build} --record')
  if any(text.startswith('less') for _, text in results):
    print(f'Fewer instructions: let the baseline follow: {sys.argv[0]} {options.build} --record')
  passed = sum(well is True for well, _ in results)
  failed = sum(well is False for well, _ in results)
  print(f'{passed} passed, {failed} failed, {len(results) - passed - failed} skipped')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
