#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that a set of make targets needs and that are missing.
#
#   demo   build the library and the kmcl command, run the demonstration
#   check  demo, and the unit and conformance tests
#   bench  demo, and the instruction counts (valgrind's callgrind)
#   ci     check and bench, and what else .ci/run uses
#
# With everything in place it only asks dpkg and needs neither root nor the network.
set -eu

demo="gcc libc6-dev make meson ninja-build pkgconf libssl-dev libjansson-dev"
check="$demo libcmocka-dev python3"
bench="$demo python3 valgrind"
ci="$check valgrind clang util-linux git"

case "${1-}" in
demo) packages=$demo ;;
check) packages=$check ;;
bench) packages=$bench ;;
ci) packages=$ci ;;
*)
  echo "usage: $0 demo|check|bench|ci" >&2
  exit 2
  ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "$0: not a Debian system; the build needs what Debian calls: $packages" >&2
  exit 0
fi

# shellcheck disable=SC2086  # the lists are meant to be split
present=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null || true)
missing=
for package in $packages; do
  printf '%s\n' "$present" | grep -qx "$package installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends$missing"
echo "missing packages:$missing" >&2
if [ "$(id -u)" -eq 0 ]; then
  exec sh -c "$install"
elif command -v sudo >/dev/null 2>&1 && sudo sh -c "$install"; then
  exit 0
fi
echo "$0: root must run this first:" >&2
echo "  $install" >&2
exit 1
