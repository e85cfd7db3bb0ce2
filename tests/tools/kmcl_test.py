#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The kmcl command as people and programs use it. Prints TAP."""
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

KMCL = sys.argv[1]
PATIENCE = 100  # seconds; only to end a test that hangs


def run(*words, **more):
  return subprocess.run([KMCL, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                        timeout=PATIENCE, **more)


def usage_errors_say_what_was_expected_and_exit_with_2():
  for words in ((), ('nonsense',), ('ls',), ('ls', '--bus'), ('ping', '--bus', 'x', '--count', '0'),
                ('ping', '--bus', 'x', '--size', '12'), ('ping', '--bus', 'x', '--count', '12x'),
                ('echo',), ('demo', '--nonsense'), ('demo', 'extra'), ('demo', '--handover', '--times', '0'),
                ('demo', '--times', '101'), ('demo', '--times', '3x')):
    result = run(*words)
    assert result.returncode == 2, (words, result)
    assert result.stderr.startswith('kmcl') and not result.stdout, (words, result)


def help_and_version_go_to_stdout():
  assert run('--version').stdout == 'kmcl 0.1.0\n'
  for words in ('help',), ('--help',), ('demo', '--help'), ('ls', '--help'), ('ping', '--help'), ('echo', '--help'):
    result = run(*words)
    assert result.returncode == 0 and 'usage: kmcl' in result.stdout and not result.stderr, (words, result)


def a_bus_that_is_not_there_is_an_error_that_names_it():
  with tempfile.TemporaryDirectory() as directory:
    for command in 'ls', 'ping':
      result = run(command, '--bus', f'{directory}/none')
      assert result.returncode == 1 and f'{directory}/none' in result.stderr, result


def demo_shows_all_four_acts():
  result = run('demo', '--json')
  facts = json.loads(result.stdout)
  assert result.returncode == 0 and facts['ok'] and not facts['error'], (facts, result.stderr)
  assert facts['protocol_version'] == 0x60000
  assert facts['sync_count'] == 10000 and facts['sync_wrong'] == 0 and facts['sync_ok']
  assert 0 < facts['sync_p50_ns'] <= facts['sync_p99_ns']
  assert facts['digest_ok'] and facts['file_bytes'] == os.stat(facts['file']).st_size
  assert facts['bytes_shared'] == facts['file_bytes'] and facts['bytes_bounced'] == 0
  assert facts['timeouts_ok'] and facts['late_completions'] == 1
  assert facts['burst_ok'] and facts['burst_queued'] > 0 and facts['out_of_order'] == 0
  assert facts['packets_lost'] == 0
  assert facts['kill_ok'] and facts['kill_in_flight'] == facts['kill_device_removed'] == 32


def demo_sends_the_file_it_is_given():
  for size in 0, 1, 4095, 1 << 20, (3 << 20) + 17:
    with tempfile.NamedTemporaryFile() as file:
      file.write(os.urandom(size))
      file.flush()
      facts = json.loads(run('demo', '--json', '--file', file.name).stdout)
      digest = subprocess.run(['sha256sum', file.name], capture_output=True, text=True, check=True).stdout.split()[0]
      assert facts['digest_ok'] and facts['file_bytes'] == size and facts['sha256'] == digest, facts


def demo_prints_a_table_and_refuses_a_file_it_cannot_read():
  result = run('demo')
  assert result.returncode == 0 and 'FAILED' not in result.stdout, result
  assert any(line.split() == ['ok', 'packets', 'lost', '0'] for line in result.stdout.splitlines()), result.stdout
  result = run('demo', '--file', '/nonexistent/file')
  assert result.returncode == 1 and '/nonexistent/file' in result.stderr, result


def handed_over_server_loses_nothing():
  result = run('demo', '--handover', '--times', '4', '--json')
  facts = json.loads(result.stdout)
  assert result.returncode == 0 and facts['ok'] and not facts['error'] and not result.stderr, (facts, result.stderr)
  assert facts['handovers'] == facts['visitors'] == len(facts['pause_ms']) == 4
  for kind in 'sync', 'async':
    assert 0 < facts[f'{kind}_sent'] == facts[f'{kind}_received'] == facts[f'{kind}_answered'], facts
  assert facts['external_bytes'] > 0 and facts['notes_sent'] >= facts['notes_answered'] > 0
  # One more was to a process that died.
  assert facts['failure_survived'] is True
  # Each handover finds notes on their way and others that wait for the ring.
  assert facts['notes_restored'] >= 4 * 4 and facts['wrong'] == 0
  assert all(pause > 0 for pause in facts['pause_ms'])


def handover_prints_a_table_with_the_pause_of_each():
  result = run('demo', '--handover', '--times', '2')
  assert result.returncode == 0 and 'FAILED' not in result.stdout and not result.stderr, result
  lines = [line.split() for line in result.stdout.splitlines()]
  assert ['ok', 'lost,', 'repeated,', 'wrong', '0'] in lines, result.stdout
  assert sum(line[-1:] == ['ms'] for line in lines) == 3, result.stdout


def echo_is_listed_and_answers_pings():
  with tempfile.TemporaryDirectory() as directory:
    path = f'{directory}/bus'
    server = subprocess.Popen([KMCL, 'echo', '--bus', path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
      assert path in server.stdout.readline()
      assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
      listed = json.loads(run('ls', '--bus', path, '--json').stdout)
      assert [offer['name'] for offer in listed] == ['OpenKMCL echo'], listed
      assert listed[0]['type'] in run('ls', '--bus', path).stdout
      for size in 8, 64, 65536:
        result = run('ping', '--bus', path, '--count', '20', '--size', str(size))
        assert result.returncode == 0 and '20 answers' in result.stdout, result
      second = run('echo', '--bus', path)
      assert second.returncode == 1 and path in second.stderr, second
    finally:
      server.send_signal(signal.SIGINT)
      assert server.wait(PATIENCE) == 0
      server.stdout.close()
    assert not Path(path).exists()


TESTS = [usage_errors_say_what_was_expected_and_exit_with_2, help_and_version_go_to_stdout,
         a_bus_that_is_not_there_is_an_error_that_names_it, demo_shows_all_four_acts,
         handed_over_server_loses_nothing, handover_prints_a_table_with_the_pause_of_each,
         demo_sends_the_file_it_is_given, demo_prints_a_table_and_refuses_a_file_it_cannot_read,
         echo_is_listed_and_answers_pings]

print(f'1..{len(TESTS)}')
for number, test in enumerate(TESTS, 1):
  try:
    test()
    print(f'ok {number} - {test.__name__}', flush=True)
  except Exception as error:  # the next test still runs
    print(f'not ok {number} - {test.__name__}', flush=True)
    print(f'# {type(error).__name__}: {error}', flush=True)
