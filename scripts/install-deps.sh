#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that a set of make targets needs and that are missing.
#
#   demo   build the library and the kmcl command, run the demonstration
#   check  demo, and the unit and conformance tests
#   guest  check, and the machines of `make guest`: QEMU, and what takes Debian packages apart
#   bench  demo, and the instruction counts (valgrind's callgrind)
#   fuzz   demo, and clang with its sanitizers, fuzzer and coverage
#   peer-dpdk, peer-zeromq, peer-nng, peer-iceoryx   what `make bench` compares with; it goes on without
#   ci     all of these, and what else .ci/run uses
#
# With everything in place it only asks dpkg and needs neither root nor the network.
set -eu

demo="gcc libc6-dev make meson ninja-build pkgconf libssl-dev libjansson-dev libseccomp-dev"
check="$demo g++ libcmocka-dev libdw-dev python3 systemtap-sdt-dev binutils liburing-dev acpica-tools"
guest="$check qemu-system-x86 e2fsprogs kmod apt dpkg"
bench="$demo python3 valgrind binutils"
fuzz="$demo python3 systemtap-sdt-dev liburing-dev clang libclang-rt-dev llvm"
# The cross compiler for the check against mingw-w64's headers: 70 MB to download, 400 MB installed.
mingw="gcc-mingw-w64-x86-64-win32 g++-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev"
ci="$check $guest $bench $fuzz $mingw util-linux git gcovr spin"

case "${1-}" in
demo) packages=$demo ;;
check) packages=$check ;;
guest) packages=$guest ;;
bench) packages=$bench ;;
fuzz) packages=$fuzz ;;
peer-dpdk) packages=libdpdk-dev ;;
peer-zeromq) packages=libzmq3-dev ;;
peer-nng) packages=libnng-dev ;;
peer-iceoryx) packages="libiceoryx-binding-c-dev iceoryx" ;;
ci) packages=$ci ;;
*)
  echo "usage: $0 demo|check|guest|bench|fuzz|peer-dpdk|peer-zeromq|peer-nng|peer-iceoryx|ci" >&2
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
