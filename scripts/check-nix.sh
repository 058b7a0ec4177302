#!/bin/bash
# Checks that the given Nix files parse, with the Nix of this machine or else of the lab's root.
#
#   check-nix.sh FILE...

set -euo pipefail

if command -v nix-instantiate >/dev/null; then
  nix-instantiate --parse "$@" >/dev/null
else
  # A chroot in a mount namespace of its own: nothing is mounted on this machine.
  root=$(tests/root/build.sh trixie)
  files=("${@/#//mnt/}")
  # shellcheck disable=SC2016 # the inner shell's variables
  here=$PWD unshare --mount --propagation private bash -euc '
    root=$1
    shift
    mount --bind "$here" "$root/mnt"
    mount --bind /proc "$root/proc"
    chroot "$root" env NIX_STATE_DIR=/tmp/check-nix nix-instantiate --parse "$@" >/dev/null
  ' check-nix "$root" "${files[@]}"
fi
echo "$# Nix files parse"
