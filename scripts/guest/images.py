#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds what the machines of `make guest` boot, from Debian packages and a build directory.

Everything lives in ${XDG_CACHE_HOME:-$HOME/.cache}/openkmcl/guest:

  HASH/           made from packages alone; the name is a hash of these scripts and of the packages' versions
    bzImage       the kernel of both machines
    l1.cpio       busybox, drivers and first process of L1, the machine with KVM
    l2.cpio       the same for L2, the guest of our VMBus host
    images.ext4   L1's disk: bzImage again, and disk.ext4, the disk that L2 is to be given

The program under test comes in an archive of its own (`project_archive`), which is appended to those of both machines.
"""
import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import packages  # noqa: E402  # pylint: disable=wrong-import-position
from cpio import Archive  # noqa: E402  # pylint: disable=wrong-import-position

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'openkmcl', 'guest')

# What these need comes along. A driver that the kernel has built in is no error.
L1_DRIVERS = ['virtio_pci', 'virtio_blk', 'virtio_console', 'kvm_amd', 'loop']
L2_DRIVERS = ['hv_vmbus', 'hv_utils', 'hv_storvsc', 'sd_mod', 'crc_t10dif', 'crct10dif_generic', 'uio', 'uio_hv_generic', 'hyperv_keyboard', 'evdev',
              'hid_hyperv', 'hv_balloon', 'hv_netvsc', 'hv_sock',
              'virtio_pci', 'virtio_blk']  # of another machine's, that ours is measured against
# From the machine that builds, with the libraries they need: the program under test is linked against its libraries.
L1_PROGRAMS = ['e2fsck', 'mke2fs']
TREE_MIB = 52
DISK_MIB = 448  # that tree, and a check writes 200 MB


def find_program(name):
  found = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
  if not found:
    raise SystemExit(f'{name} is missing: scripts/install-deps.sh guest')
  return found


def shared_libraries(paths):
  """{path inside: path here} of all shared objects that the given ones need, with the program that loads them."""
  found = {}
  for path in paths:
    listed = subprocess.run(['ldd', path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in listed.stdout.splitlines():
      words = line.split()
      if 'not found' in line:
        raise SystemExit(f'{path} needs a library that is not here: {line.strip()}')
      if '=>' in words:
        found['/lib/x86_64-linux-gnu/' + words[0]] = words[2]
      elif words and words[0].startswith('/'):
        found[words[0]] = words[0]  # the dynamic linker, under the name that programs ask for
  return found


def add_programs(archive, programs):
  """Adds {path inside: path here} with the libraries, once each."""
  for inside, here in {**shared_libraries(programs.values()), **programs}.items():
    archive.copy(inside, here)


def kernel_modules(root, wanted):
  """Paths below `root` of the drivers and all they depend on."""
  version = next(Path(root, 'lib/modules').iterdir()).name
  folder = Path(root, 'lib/modules', version)
  depends = {}
  for line in (folder / 'modules.dep').read_text().splitlines():
    path, _, needs = line.partition(':')
    depends[Path(path).name.split('.')[0].replace('-', '_')] = [path, *needs.split()]
  builtin = {Path(p).name.split('.')[0].replace('-', '_') for p in (folder / 'modules.builtin').read_text().split()}
  missing = set(wanted) - depends.keys() - builtin
  if missing:
    raise SystemExit(f'the kernel {version} has no {", ".join(sorted(missing))}')
  return version, sorted({path for name in wanted if name in depends for path in depends[name]})


def base_archive(path, root, init, agent, drivers, programs):
  archive = Archive(path)
  archive.copy('/bin/busybox', Path(root, 'bin/busybox'))
  archive.link('/bin/sh', 'busybox')
  for folder in ('/dev', '/proc', '/sys', '/tmp', '/run', '/sbin', '/etc', '/root', '/mnt', '/usr/bin'):
    archive.folder(folder)
  archive.link('/lib64/ld-linux-x86-64.so.2', '../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
  archive.data('/init', (HERE / init).read_bytes(), 0o755)
  archive.data(f'/guest/{agent}', (HERE / agent).read_bytes(), 0o755)
  version, modules = kernel_modules(root, drivers)
  folder = f'lib/modules/{version}'
  for module in modules:
    archive.copy(f'/{folder}/{module}', Path(root, folder, module))
  for table in ('modules.dep', 'modules.alias', 'modules.builtin', 'modules.order'):
    archive.copy(f'/{folder}/{table}', Path(root, folder, table))
  add_programs(archive, programs)
  return archive


def make_disk(path, tree, mib, label):
  """An ext4 file system with a copy of `tree`; it has room that takes none here."""
  with open(path, 'wb') as file:
    file.truncate(mib << 20)
  subprocess.run([find_program('mke2fs'), '-q', '-t', 'ext4', '-L', label, '-E', 'root_owner=0:0', '-d', tree, path],
                 check=True, stdin=subprocess.DEVNULL)


def checksums(tree):
  """The lines that md5sum prints of all files below `tree`."""
  files = sorted(p for p in Path(tree).rglob('*') if p.is_file())
  return ''.join(f'{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(tree)}\n' for p in files)


def some_of(source, target, mib):
  """Copies whole files, in the order of their names, until there are so many MiB."""
  left = mib << 20
  for path in sorted(p for p in Path(source).rglob('*') if p.is_file() and not p.is_symlink()):
    if left > 0:
      copy = target / path.relative_to(source)
      copy.parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, copy)
      left -= path.stat().st_size


def build_base(folder, root):
  """Makes everything in `folder` from the packages unpacked in `root`."""
  version = next(Path(root, 'lib/modules').iterdir()).name
  subprocess.run([find_program('depmod'), '-b', root, version], check=True, stdin=subprocess.DEVNULL)
  kernel = Path(root, 'boot', f'vmlinuz-{version}')
  shutil.copyfile(kernel, folder / 'bzImage')
  base_archive(folder / 'l1.cpio', root, 'l1-init', 'agent', L1_DRIVERS,
               {f'/usr/bin/{name}': find_program(name) for name in L1_PROGRAMS}).close()
  l2 = base_archive(folder / 'l2.cpio', root, 'l2-init', 'console-agent', L2_DRIVERS,
                    {'/usr/bin/hv_kvp_daemon': Path(root, 'usr/sbin/hv_kvp_daemon')})
  l2.data('/sbin/poweroff', (HERE / 'l2-poweroff').read_bytes(), 0o755)
  l2.data('/sbin/reboot', (HERE / 'l2-poweroff').read_bytes(), 0o755)
  l2.close()

  # The disk of L2: real files, and their sums beside them; and what another kernel needs.
  tree = folder / 'tree'
  some_of(Path(root, 'lib/modules', version), tree / 'modules', TREE_MIB)
  (tree / 'modules.md5').write_text(checksums(tree / 'modules'))
  (tree / 'kexec').mkdir()
  shutil.copyfile(kernel, tree / 'kexec/bzImage')
  shutil.copyfile(folder / 'l2.cpio', tree / 'kexec/l2.cpio')
  disk = folder / 'l1-tree'
  disk.mkdir()
  make_disk(disk / 'disk.ext4', tree, DISK_MIB, 'l2')
  shutil.copyfile(kernel, disk / 'bzImage')
  make_disk(folder / 'images.ext4', disk, 4096, 'l1')
  shutil.rmtree(tree)
  shutil.rmtree(disk)


def base():
  """The folder with images from packages, built if these scripts or the packages' versions are new."""
  CACHE.mkdir(parents=True, exist_ok=True)
  with open(CACHE / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    apt = packages.Apt(CACHE)
    versions = packages.resolve(apt)
    folder = CACHE / base_key(versions)
    if (folder / 'complete').exists():
      return folder
    root = CACHE / 'unpacked'
    versions = packages.unpack(apt, versions, root)
    folder = CACHE / base_key(versions)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build_base(folder, root)
    shutil.rmtree(root)
    (folder / 'complete').write_text(''.join(f'{p} {v}\n' for p, v in versions.items()))
    for old in CACHE.iterdir():
      if old != folder and (old / 'bzImage').exists():
        shutil.rmtree(old)
    return folder


def base_key(versions):
  digest = hashlib.sha256()
  for script in sorted(HERE.iterdir()):
    if script.is_file():
      digest.update(script.name.encode() + b'\0' + script.read_bytes() + b'\0')
  for name in L1_PROGRAMS:
    digest.update(Path(find_program(name)).read_bytes())
  digest.update(repr(sorted(versions.items())).encode())
  return digest.hexdigest()[:16]


def project_archive(path, build, extra=()):
  """The program and the drivers of a build directory, and [(path inside, path here)], with their libraries."""
  build = Path(build)
  programs = {'/usr/bin/kmcl': build / 'kmcl'}
  for driver in sorted([*build.glob('drivers/*.so'), *build.glob('drivers/*.inf')]):
    programs[f'/usr/lib/kmcl/{driver.name}'] = driver
  programs.update(dict(extra))
  archive = Archive(path)
  add_programs(archive, programs)
  archive.close()


def join(path, *parts):
  with open(path, 'wb') as out:
    for part in parts:
      with open(part, 'rb') as file:
        shutil.copyfileobj(file, out)


def images(build, folder, extra=(), l1_extra=()):
  """{name: path} of all files that L1 boots with; those that depend on the build directory go into `folder`. More files,
  [(path inside, path here)], for both machines or for L1 alone."""
  made = base()
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  project_archive(folder / 'project.cpio', build, extra)
  l1_more = Archive(folder / 'l1-more.cpio')
  add_programs(l1_more, dict(l1_extra))
  l1_more.close()
  join(folder / 'l1.cpio', made / 'l1.cpio', folder / 'project.cpio', folder / 'l1-more.cpio')
  join(folder / 'l2.cpio', made / 'l2.cpio', folder / 'project.cpio')
  return {'kernel': made / 'bzImage', 'disk': made / 'images.ext4', 'l1': folder / 'l1.cpio', 'l2': folder / 'l2.cpio'}


def main():
  parser = argparse.ArgumentParser(description='Build what the machines of `make guest` boot, and say where it is.')
  parser.add_argument('build', help='build directory with kmcl and its drivers')
  args = parser.parse_args()
  for name, path in images(args.build, Path(args.build, 'guest')).items():
    print(f'{name:8} {path}')


if __name__ == '__main__':
  main()
