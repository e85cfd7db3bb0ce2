# SPDX-License-Identifier: MIT
"""Debian packages, downloaded and unpacked but not installed: neither root nor the host's boot files are touched.

What the machine's own package lists know is taken; where they are missing or too old (a package they name is no longer
served), lists of our own are fetched into the cache.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

KERNEL = 'linux-image-cloud-amd64'  # a package without files that depends on the current kernel
OTHERS = ['busybox-static', 'hyperv-daemons']


class Apt:
  def __init__(self, cache):
    self.own = Path(cache, 'apt')
    self.options = []

  def _run(self, *command):
    return subprocess.run([command[0], *self.options, *command[1:]], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)

  def use_own_lists(self):
    for folder in ('lists/partial', 'archives/partial'):
      (self.own / folder).mkdir(parents=True, exist_ok=True)
    self.options = ['-o', f'Dir::State::lists={self.own}/lists', '-o', f'Dir::Cache={self.own}',
                    '-o', f'Dir::Cache::archives={self.own}/archives', '-o', 'APT::Sandbox::User=']
    done = self._run('apt-get', 'update')
    if done.returncode != 0:
      raise SystemExit(f'cannot fetch package lists: {done.stderr.strip()}')

  def versions(self):
    """{package: version} of what the images are made of, or None if the lists do not know all of it."""
    depends = re.search(r'Depends: (linux-image-\S+)', self._run('apt-cache', 'depends', KERNEL).stdout)
    if not depends:
      return None
    wanted = [depends[1], *OTHERS]
    found = {}
    for package in wanted:
      candidate = re.search(r'Candidate: (\S+)', self._run('apt-cache', 'policy', package).stdout)
      if not candidate or candidate[1] == '(none)':
        return None
      found[package] = candidate[1]
    return found

  def download(self, package, version, folder):
    """Whether the package could be had; its file is then in `folder`."""
    done = subprocess.run(['apt-get', *self.options, '-o', 'APT::Sandbox::User=', '-q', 'download', f'{package}={version}'],
                          cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=600)
    self.said = done.stdout
    return done.returncode == 0


def resolve(apt):
  versions = apt.versions()
  if not versions:
    apt.use_own_lists()
    versions = apt.versions()
  if not versions:
    raise SystemExit(f'no package {KERNEL} with all of {OTHERS}: this needs the package lists of Debian 12 or newer for amd64')
  return versions


def unpack(apt, versions, folder):
  """Unpacks all packages below `folder`; returns the versions, newer ones if the lists had to be fetched again."""
  for attempt in range(2):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if all(apt.download(package, version, folder) for package, version in versions.items()):
      break
    if attempt:
      raise SystemExit(f'cannot download {", ".join(versions)}:\n{apt.said}')
    apt.use_own_lists()
    versions = apt.versions()
  for package in Path(folder).glob('*.deb'):
    subprocess.run(['dpkg-deb', '-x', package, folder], check=True, stdin=subprocess.DEVNULL)
    package.unlink()
  return versions
