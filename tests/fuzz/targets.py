# SPDX-License-Identifier: MIT
"""The rows of tests/fuzz/meson.build, as meson wrote them into the build directory."""
import fnmatch
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]


@dataclass
class Target:
  name: str
  program: Path
  max_len: int = 0
  measured: list = field(default_factory=list)   # paths; folders end with /
  unreached: dict = field(default_factory=dict)  # function: why

  @property
  def dictionary(self):
    return HERE / 'dict' / self.name

  @property
  def seeds(self):
    return HERE / 'seeds' / self.name

  def measures(self, path):
    return any(path == place or place.endswith('/') and path.startswith(place) for place in self.measured)


def read(build, globs=()):
  """All targets, or those that a pattern selects."""
  folder = Path(build, 'tests', 'fuzz')
  found = []
  for line in (folder / 'targets').read_text().splitlines():
    key, value = line.split(' ', 1)
    if key == 'target':
      found.append(Target(value, folder / f'fuzz_{value}'))
    elif key == 'max_len':
      found[-1].max_len = int(value)
    elif key == 'measured':
      found[-1].measured.append(value)
    elif key == 'unreached':
      function, why = value.split(' ', 1)
      found[-1].unreached[function] = why
  return [target for target in found if not globs or any(fnmatch.fnmatchcase(target.name, glob) for glob in globs)]
