# SPDX-License-Identifier: MIT
"""Writes initramfs archives ("newc" cpio), which the kernel accepts one behind the other.

Owner and times are always 0, so the same content gives the same bytes, whoever runs it.
"""
import os
import stat


class Archive:
  def __init__(self, path):
    self.file = open(path, 'wb')
    self.folders = set()
    self.serial = 0

  def _entry(self, name, mode, data=b'', device=(0, 0)):
    name = name.encode()
    self.serial += 1
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (self.serial, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    self._padded(b'070701' + b''.join(b'%08X' % n for n in numbers) + name + b'\0')
    self._padded(data)

  def _padded(self, data):
    self.file.write(data + b'\0' * (-len(data) % 4))

  def folder(self, name):
    """Makes a folder and those above it, once."""
    name = name.strip('/')
    if name and name not in self.folders:
      self.folder(os.path.dirname(name))
      self.folders.add(name)
      self._entry(name, stat.S_IFDIR | 0o755)

  def data(self, name, data, mode=0o644):
    self.folder(os.path.dirname(name))
    self._entry(name.strip('/'), stat.S_IFREG | mode, data)

  def link(self, name, target):
    self.folder(os.path.dirname(name))
    self._entry(name.strip('/'), stat.S_IFLNK | 0o777, target.encode())

  def copy(self, name, source):
    """Adds a file with its contents and its right to be executed; symbolic links are followed."""
    with open(source, 'rb') as file:
      self.data(name, file.read(), 0o755 if os.access(source, os.X_OK) else 0o644)

  def close(self):
    self._entry('TRAILER!!!', 0)
    self.file.write(b'\0' * (-self.file.tell() % 512))
    self.file.close()
