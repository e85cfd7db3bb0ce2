#!/bin/sh
# SPDX-License-Identifier: MIT
# Root runs the tests of build/ as a user without any rights, from a copy that this user can read
# and not write: the tree itself may lie where only root gets. Arguments go to tests/run_tests.py.
set -eu
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar -cf - --exclude=./.git --exclude=./build/asan --exclude=./build/tsan --exclude=./build/clang . |
  tar -xf - -C "$copy" --no-same-owner
chmod -R a+rX,go-w "$copy"

setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
  env -i CCACHE_DISABLE=1 PATH=/usr/bin:/bin HOME=/nonexistent LANG=C.UTF-8 \
  python3 -B "$copy/tests/run_tests.py" "$copy/build" "$@"
