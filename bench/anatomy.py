#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the instructions of one transaction go: the table of docs/performance.md.

    anatomy.py BUILD [KIND SIZE DEPTH]     inband 64 32, unless said otherwise (bench/transaction.c)

Functions are counted by callgrind in a short and a long run, and the difference is shared out by name. `--functions` lists them.
"""
import argparse
import re
from pathlib import Path

from measure import Bench

PACKETS = 4000
# The first pattern that a function's name matches decides; inlined code counts as its caller.
PARTS = [
    ('locks that are not inlined', r'pthread_mutex|lll_|_usercnt|vmb_lock'),
    ('loops, signals, system calls', r'loop|epoll|doorbell|vmb_port|^write$|^read$|signal_by|^syscall|clock|ready_|run_channel|kmcl_tx_(flush|pump|lock|unlock)|vdso|now_ns|wait_for_events|asynccancel|cond_|^poll'),
    ('copying: ring and memory', r'vmb_ring_(write|copy)|tx_write|tx_copy|rx_copy|mem(cpy|move|set)'),
    ('publishing and releasing, with their barriers', r'vmb_ring_(tx_commit|rx_release|rx_mask|rx_unmask)|publish|release_space'),
    ('validation of what the peer wrote', r'vmb_ring_peek|vmb_packet_parse|vmb_gpa_next|has_pages|mem_run|table_find'),
    ('checks of the API\'s arguments', r'VmbPacketSend|check_packet|check_role|kmcl_send_|from_handle|irql|Irql|IRQL'),
    ('external data: lists, pins, mappings', r'external|mdl|Mdl|arena|vmb_mem|forget_mapping|pages_(un)?pin|put_pages|read_only_host|MapLocked|GetExternalData|build_chain|put_range|for_each_run'),
    ('transaction table and packet states', r'slot|forget|kmcl_tx_claim|kmcl_tx_send|write_packet|write_locked|sent_locked|describe|'
     r'capture|payload_offset|check_mode|never_fits|put_header|put_descriptor|settle|kmcl_tx_complete|completion_sent|fit'),
    ('incoming objects and their end', r'incoming|PacketComplete|release_outstanding|take_|drop_mappings|transfer_release|outstanding'),
    ('dispatch: batches and callbacks', r'run_batch|process_one|indicate|kmcl_tx_finish|run_routine|end_batch|complete_outgoing|kmcl_rx|own'),
    ('trace points that are off', r'trace'),
    ('the driver itself', r'serve|send_next|done|echo|^run$|main|check$'),
]


def by_function(bench, arguments):
  counts, fn, call = {}, None, False
  for line in bench.callgrind('transaction', arguments, '--compress-strings=no', '--compress-pos=no').splitlines():
    if line.startswith('fn='):
      fn = line[3:].split("'")[0]
    elif line.startswith('calls='):
      call = True
    elif line[:1].isdigit():
      if not call:
        counts[fn] = counts.get(fn, 0) + int(line.split()[1])
      call = False
  return counts


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('build', type=Path)
  parser.add_argument('shape', nargs='*', default=['inband', '64', '32'])
  parser.add_argument('--functions', action='store_true')
  options = parser.parse_args()
  kind, size, depth = options.shape
  bench = Bench(options.build, 1)
  short = by_function(bench, (kind, size, PACKETS, depth))
  long = by_function(bench, (kind, size, 3 * PACKETS, depth))
  each = {fn: (count - short.get(fn, 0)) / (2 * PACKETS) for fn, count in long.items()}
  parts = {}
  for fn, count in sorted(each.items(), key=lambda item: -item[1]):
    part = next((name for name, pattern in PARTS if re.search(pattern, fn)), 'other')
    parts[part] = parts.get(part, 0) + count
    if options.functions and count >= 1:
      print(f'{count:8.1f}  {fn}  ({part})')
  total = sum(each.values())
  print('| part | instructions | share |\n| --- | --: | --: |')
  for part, count in sorted(parts.items(), key=lambda item: -item[1]):
    if count >= 0.5:
      print(f'| {part} | {count:,.0f} | {100 * count / total:.0f} % |')
  print(f'| all | {total:,.0f} | |')


if __name__ == '__main__':
  main()
