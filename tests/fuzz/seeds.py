# SPDX-License-Identifier: MIT
"""Inputs as a text file: one a line, in hexadecimal; what follows # is a remark, which stays when the file is written anew."""
import hashlib


def parse(path):
  """(bytes, remark) of each line; a remark on a line of its own has None for bytes."""
  if not path.exists():
    return []
  found = []
  for line in path.read_text().splitlines():
    text, mark, remark = line.partition('#')
    found.append((bytes.fromhex(text) if text.strip() or not mark else None, remark.strip()))
  return found


def unpack(path, folder):
  """Write each input to a file named after its hash, as libFuzzer does."""
  for data, _ in parse(path):
    if data is not None:
      (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(inputs, path):
  """Replace the inputs of a file, shortest first. Those with a remark are somebody's choice and stay at the top."""
  chosen = [(data, remark) for data, remark in parse(path) if remark]
  there = {data for data, _ in chosen}
  lines = [f'{data.hex()} # {remark}' if data is not None else f'# {remark}' for data, remark in chosen]
  lines += [data.hex() for data in sorted(set(inputs) - there, key=lambda data: (len(data), data)) if data]
  path.write_text(''.join(f'{line}\n' for line in lines))
