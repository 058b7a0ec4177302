#!/bin/bash
# Runs a program of Nix: this machine's, or else that of the lab's root.
#
#   nix.sh [--see FOLDER]... PROGRAM ARGUMENT...
#
# The lab's sees this repository and the folders named, at their own paths, has a store that is gone when
# it ends, and needs root: it lives in a mount namespace of its own, so nothing is mounted on this machine.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
seen=("$here")
while [ "${1-}" = --see ]; do
  seen+=("$(realpath -e "$2")")
  shift 2
done
program=${1:?usage: nix.sh [--see FOLDER]... PROGRAM ARGUMENT...}

if command -v "$program" >/dev/null; then
  exec "$@"
fi

root=$("$here/tests/root/build.sh" trixie)
new=$(mktemp -d)
trap 'rmdir "$new"' EXIT

# shellcheck disable=SC2016 # the inner shell's variables
root=$root new=$new seen=$(printf '%s\n' "${seen[@]}") \
  unshare --mount --propagation private bash -euc '
  mount -t tmpfs tmpfs "$new"
  see() {
    mkdir -p "$new$2"
    mount --bind "$1" "$new$2"
    mount -o remount,ro,bind "$new$2"
  }
  for folder in usr etc var; do see "$root/$folder" "/$folder"; done
  for link in bin lib lib64 sbin; do [ ! -e "$root/$link" ] || ln -s "usr/$link" "$new/$link"; done
  mkdir -p "$new"/{nix,proc,tmp}
  mkdir "$new/dev"
  mount -t tmpfs tmpfs "$new/dev"
  mknod -m 666 "$new/dev/null" c 1 3
  mount -t proc proc "$new/proc"
  while read -r folder; do see "$folder" "$folder"; done <<<"$seen"
  chroot "$new" env --ignore-environment PATH=/usr/bin:/bin HOME=/tmp "$@"
' nix.sh "$@"
