# SPDX-License-Identifier: MIT
"""What is measured, row by row, and the goal of each figure.

A row is a function of a Bench that yields figures. `docs/performance.md` says what a row means and why a goal is missed.
"""
import guest_disk
from measure import Failed

PEERS = {'shared': 'bare shared memory', 'seqpacket': 'SEQPACKET', 'pipes': 'pipes', 'zeromq': 'ZeroMQ', 'nng': 'nng',
         'iceoryx': 'iceoryx', 'process_vm': 'process_vm_readv', 'bytes': 'bare ring', 'memcpy': 'memcpy alone',
         'rte': 'rte_ring', 'rte_data': 'rte_ring with the data', 'vmbus': 'DPDK vmbus'}
PACKETS = 8000  # counted under callgrind: twice as many, after as many
KIB = 1024
IN_ONE_PROCESS = 'in one process, '  # where barriers are left to the end that sleeps


def figure(what, value, unit, goal=None, moonshot=None, spread=None, peers=None):
  """`goal`: the most that is allowed, or with ('least', n) the least."""
  return {'what': what, 'value': value, 'unit': unit, 'goal': goal, 'moonshot': moonshot, 'spread': spread,
          'peers': peers or {}, 'status': status(value, goal)}


def skipped(what, why):
  return {'what': what, 'value': None, 'unit': '', 'goal': None, 'moonshot': None, 'spread': None, 'peers': {},
          'status': 'skipped', 'why': why}


def status(value, goal):
  if goal is None:
    return ''
  met = value >= goal[1] if isinstance(goal, tuple) else value <= goal
  return 'met' if met else 'missed'


def at_least(n):
  return 'least', n


def ratio(what, ours, theirs, goal=None, moonshot=None):
  """How many times as long `theirs` takes; both are spreads."""
  return figure(what, theirs['median'] / ours['median'], 'x', goal, moonshot,
                [theirs['min'] / ours['max'], theirs['max'] / ours['min'], min(ours['n'], theirs['n'])])


def ring_counts(bench, title, payload, batch, goals, moonshot, peers, packets=PACKETS):
  """(in place, copied) goals, a moonshot in place; what peers need for the same."""
  others = {PEERS[p]: round(bench.ring_instructions(p, payload, batch, packets), 1)
            for p in peers if bench.has(f'ring_{p}')}
  for ring, name, goal in ('inplace', 'read in place', goals[0]), ('copy', 'copied out', goals[1]):
    yield figure(f'{title}, {name}', round(bench.ring_instructions(ring, payload, batch, packets), 1), 'instructions', goal,
                 moonshot if ring == 'inplace' else None, None, others if ring == 'inplace' else None)


def row_1(bench):
  yield from ring_counts(bench, '64 B, batches of 8', 64, 8, (130, 175), 80, ('bytes', 'memcpy', 'rte', 'vmbus'))


def row_2(bench):
  yield from ring_counts(bench, '64 B, one by one', 64, 1, (180, None), 125, ('bytes', 'memcpy', 'rte', 'vmbus'))
  yield from ring_counts(bench, '4 KiB, batches of 8', 4096, 8, (545, None), 500, ('bytes', 'memcpy', 'vmbus'))


def row_3(bench):
  def arguments(batch):
    return lambda count: ('count', 64, batch, count)
  theirs = ({PEERS['vmbus']: round(bench.barriers('ring_vmbus', arguments(1), PACKETS), 2)}
            if bench.has('ring_vmbus') else {})
  yield figure('unbatched, each packet', round(bench.barriers('ring_inplace', arguments(1), PACKETS), 2), 'barriers', 2, 0,
               None, theirs)
  yield figure('batches of 8, each batch', round(8 * bench.barriers('ring_inplace', arguments(8), PACKETS), 2), 'barriers', 2, 0)
  # An end counts as awake after 1,024 batches, which the short run must have behind it.
  for title, batch in ('unbatched, each packet', 1), ('batches of 8, each batch', 8):
    yield figure(f'{IN_ONE_PROCESS}{title}', round(batch * bench.barriers('ring_local', arguments(batch), 2 * PACKETS), 2),
                 'barriers', 0)


def ring_times(bench, mode, shapes):
  """shapes: name: (ring, batch)."""
  samples = bench.interleave({name: (f'ring_{ring}', (mode, 64, batch, 200000)) for name, (ring, batch) in shapes.items()})
  return {name: s.value('ns_each') for name, s in samples.items()}


def time_figure(what, spread, goal=None, moonshot=None, peers=None, unit='ns', scale=1):
  low, high = spread['min'] / scale, spread['max'] / scale
  return figure(what, spread['median'] / scale, unit, goal, moonshot, [low, high, spread['n']],
                {PEERS.get(name, name): other['median'] / scale for name, other in (peers or {}).items()})


def row_4(bench):
  ns = ring_times(bench, 'single', {
      'ours': ('inplace', 8), 'local': ('local', 8), 'vmbus': ('vmbus', 8), 'rte': ('rte', 1), 'rte_data': ('rte_data', 8), 'bytes': ('bytes', 8)})
  for where, ours in ('', ns.pop('ours')), (IN_ONE_PROCESS, ns.pop('local')):
    yield time_figure(f'{where}one thread, 64 B, batches of 8', ours, peers=ns)
    if 'vmbus' in ns:
      yield ratio(f'{where}against DPDK vmbus', ours, ns['vmbus'], at_least(5.4))
    if 'rte' in ns:
      yield ratio(f'{where}against rte_ring one by one', ours, ns['rte'], at_least(1))


def row_5(bench):
  ns = ring_times(bench, 'threads', {
      'one': ('inplace', 1), 'many': ('inplace', 16), 'local': ('local', 1), 'local_many': ('local', 16), 'vmbus': ('vmbus', 1), 'rte': ('rte', 1),
      'rte_many': ('rte', 16), 'rte_data': ('rte_data', 1), 'rte_data_many': ('rte_data', 16), 'bytes': ('bytes', 1),
      'bytes_many': ('bytes', 16)})
  peers = {name: ns[name] for name in ('vmbus', 'rte', 'rte_data', 'bytes') if name in ns}
  peers_many = {PEERS[name]: ns[f'{name}_many'] for name in ('rte', 'rte_data', 'bytes') if f'{name}_many' in ns}
  for where, one, many in ('', ns['one'], ns['many']), (IN_ONE_PROCESS, ns['local'], ns['local_many']):
    yield time_figure(f'{where}two threads, one by one', one, peers=peers)
    if 'vmbus' in ns:
      yield ratio(f'{where}one by one against DPDK vmbus', one, ns['vmbus'], at_least(3.3))
    if 'rte' in ns:
      yield ratio(f'{where}one by one against rte_ring', one, ns['rte'], at_least(2.2))
    if 'rte_data' in ns:
      yield ratio(f'{where}one by one against rte_ring with the data', one, ns['rte_data'], at_least(1))
    yield time_figure(f'{where}two threads, batches of 16', many, peers=peers_many)
    if 'rte_many' in ns:
      yield ratio(f'{where}batches of 16 against rte_ring', many, ns['rte_many'], at_least(0.95))
    if 'rte_data_many' in ns:
      yield ratio(f'{where}batches of 16 against rte_ring with the data', many, ns['rte_data_many'], at_least(1))


TRIPS = 20000


def row_6(bench):
  programs = 'kmcl_peer', 'shared', 'seqpacket', 'pipes', 'zeromq', 'nng', 'iceoryx'
  ns = {name: s.value('p50_ns') for name, s in
        bench.interleave({p: (p, ('sync', 64, TRIPS, 'split')) for p in programs}).items()}
  ours = ns.pop('kmcl_peer')
  yield time_figure('synchronous request and answer, p50', ours, peers=ns)
  yield figure('times two processes spinning on a cache line', ours['median'] / ns['shared']['median'], 'x', 3, 1.5,
               [ours['min'] / ns['shared']['max'], ours['max'] / ns['shared']['min'], ours['n']])
  yield ratio('against SEQPACKET', ours, ns['seqpacket'], at_least(150))


def row_7(bench):
  for title, place, goal in ('two CPUs', 'split', 0.95), ('one CPU', 'same', 0.7):
    ns = {name: s.value('p50_ns') for name, s in bench.interleave({
        'never': ('kmcl_peer', ('sync', 64, TRIPS // 2, place, 0)),
        **({'default': ('kmcl_peer', ('sync', 64, TRIPS // 2, place))} if place == 'same' else {}),
        **{p: (p, ('sync', 64, TRIPS // 2, place)) for p in ('seqpacket', 'pipes', 'zeromq', 'nng')}}).items()}
    for name, how in ('default', 'default waiting'), ('never', 'never polling'):
      if name not in ns:
        continue
      ours = ns.pop(name)
      yield time_figure(f'{how}, {title}, p50', ours, peers=ns if name == 'never' else None)
      yield figure(f'{how}, {title}, part of SEQPACKET', ours['median'] / ns['seqpacket']['median'], 'x', goal, None,
                   [ours['min'] / ns['seqpacket']['max'], ours['max'] / ns['seqpacket']['min'], ours['n']])


def inflight(bench):
  programs = 'kmcl_peer', 'shared', 'seqpacket', 'pipes', 'zeromq', 'nng', 'iceoryx'
  jobs = {p: (p, ('inflight', 64, 100000, 32)) for p in programs}
  jobs['thread'] = 'kmcl_peer', ('inflight', 64, 100000, 32, 'thread')
  return bench.interleave(jobs)


def row_8_and_9(bench):
  samples = inflight(bench)
  ns = {name: s.value('ns_each') for name, s in samples.items() if name != 'thread'}
  ours = ns.pop('kmcl_peer')
  yield 8, time_figure('32 transactions in flight, each', ours, 150, 60, ns)
  yield 8, ratio('against SEQPACKET', ours, ns['seqpacket'], at_least(15))
  for name, title, goal in ('kmcl_peer', 'batched', 0.003), ('thread', 'unbatched', 0.02):
    signals = samples[name].value('signals_per_1000', 1000)
    yield 9, time_figure(f'signals per packet, 32 in flight, {title}', signals, goal, 0.001, unit='')


TRANSFERS = (4 * KIB, 20000, '4 KiB', 10), (64 * KIB, 8000, '64 KiB', 4), (KIB * KIB, 1000, '1 MiB', 2.5)


# Who moves no data is done with fewer before both processors are at it.
UNMOVED = {'kmcl_peer': 20000, 'shared': 20000}


def external(bench, access):
  programs = 'kmcl_peer', 'shared', 'process_vm', 'seqpacket', 'zeromq'
  for size, count, title, goal in TRANSFERS:
    yield title, goal, {name: s.value('ns_each') for name, s in bench.interleave(
        {p: (p, ('external', size, UNMOVED.get(p, count), 8, access)) for p in programs}).items()}


def row_10(bench):
  for title, goal, ns in external(bench, 'read'):
    ours = ns.pop('kmcl_peer')
    yield time_figure(f'{title}, every byte read', ours, peers=ns, unit='us', scale=1000)
    yield ratio(f'{title} against SEQPACKET', ours, ns['seqpacket'], at_least(goal))
    yield ratio(f'{title} against process_vm_readv', ours, ns['process_vm'], at_least(4))
    yield ratio(f'{title} against a bare shared descriptor', ours, ns['shared'], moonshot=at_least(1 / 1.1))


def row_11(bench):
  least = None
  for title, _, ns in external(bench, 'touch'):
    ours = ns.pop('kmcl_peer')
    least = least or ours
    yield time_figure(f'{title}, first byte touched', ours, peers=ns, unit='us', scale=1000)
  yield figure('1 MiB, times 4 KiB', ours['median'] / least['median'], 'x', 3, None,
               [ours['min'] / least['max'], ours['max'] / least['min'], ours['n']])


CHANNELS = 2047  # as many as a bus has
CYCLES = 100000


def row_12(bench):
  samples = bench.interleave({'one': ('channels', ('idle', 1, 100000)), 'many': ('channels', ('idle', CHANNELS, 100000))})
  one, many = samples['one'].value('ns_each'), samples['many'].value('ns_each')
  switches = samples['many'].value('switches_per_s')
  yield time_figure(f'{CHANNELS} idle channels, wake-ups', switches, 0, unit='/s')
  yield time_figure('private memory of an open channel, each end', samples['many'].value('opened_bytes', 2 * KIB), 8, unit='KiB')
  yield time_figure('the same once it was used', samples['many'].value('used_bytes', 2 * KIB), unit='KiB')
  yield figure('one busy channel among them, times one alone', many['median'] / one['median'], 'x', 1.03, None,
               [many['min'] / one['max'], many['max'] / one['min'], many['n']])
  cycles = bench.interleave({'cycles': ('channels', ('cycle', CYCLES))}, rounds=1)['cycles']
  first, last = cycles.value('first_ns'), cycles.value('last_ns')
  yield figure('open and close, last tenth times the first', last['median'] / first['median'], 'x', 1.1)
  yield time_figure(f'memory grown over {CYCLES:,} cycles', cycles.value('grown_bytes', KIB), 64, unit='KiB')


def row_13(bench):
  why = guest_disk.missing()
  if why:
    yield skipped('guest disk', why)
    return
  figures = guest_disk.measure(bench.build)
  ours, virtio = figures['ours'], figures['virtio']
  peer = 'virtio-blk of QEMU'
  for what, title in ('exits', 'exits per read'), ('interrupts', 'interrupts per read'):
    yield time_figure(f'{title} of 4 KiB, 32 in flight', ours[what], 0.25, peers={peer: virtio[what]}, unit='')
  yield time_figure('a read of 4 KiB, 32 in flight', ours['ns_each'], peers={peer: virtio['ns_each']}, unit='us', scale=1000)
  yield ratio(f'against {peer}', ours['ns_each'], virtio['ns_each'], at_least(1))


ROWS = [
    ('1', 'ring: write and read a packet', row_1),
    ('2', 'the same one by one, and long', row_2),
    ('3', 'full barriers', row_3),
    ('4', 'ring, one thread', row_4),
    ('5', 'ring, two cores', row_5),
    ('6', 'one request in flight', row_6),
    ('7', 'one request in flight, blocking', row_7),
    ('8', '32 in flight, and signals', row_8_and_9),
    ('10', 'external data, read', row_10),
    ('11', 'external data, touched', row_11),
    ('12', 'idle channels', row_12),
    ('13', 'guest disk', row_13),
]


def measure(bench, names, say):
  """All rows asked for: a list of figures, each with its row. A row that fails is reported and the others go on."""
  figures = []
  for name, title, row in ROWS:
    if names and name not in names:
      continue
    say(f'row {name}: {title}')
    try:
      for entry in row(bench):
        own, entry = entry if isinstance(entry, tuple) else (name, entry)
        figures.append({'row': str(own), **entry})
    except Failed as error:
      figures.append({'row': name, **figure(title, None, ''), 'status': 'failed', 'why': str(error)})
  return figures
