#!/bin/bash
# Compiles the program for boards' architectures with Debian 13's own Rust, the oldest that is supported,
# and prints where each is, a line for each, in the order of the arguments.
#
#   build.sh aarch64|riscv64...
#   build.sh check                  instead: does all of the workspace compile, tests too?
#
# Everything is kept in the folder CROSS_CACHE, target/cross by default.
# The compilers are in a root of their own, which is named after the hash of this script; crates are
# fetched by this machine's cargo, and compiled without a network. Needs root, Debian 12 or later, cargo,
# and a Debian mirror (LAB_MIRROR, http://deb.debian.org/debian by default). The root takes some
# minutes and 2 GB, once; so does the program, and seconds when it has not changed.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${CROSS_CACHE:-$repository/target/cross}
mirror=${LAB_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Cargo's and Debian's names of an architecture's target.
triple() {
  echo "${1/riscv64/riscv64gc}-unknown-linux-gnu"
}

if [ "$*" = check ]; then
  arguments=(check --workspace --all-targets)
else
  [ $# -gt 0 ] || set -- none
  arguments=(build --release --package roost)
  for target in "$@"; do
    case $target in
      aarch64 | riscv64) arguments+=(--target "$(triple "$target")") ;;
      *)
        echo "usage: build.sh aarch64|riscv64..., or build.sh check" >&2
        exit 2
        ;;
    esac
  done
fi

# Debian's names of the architectures: this machine's, and the boards' others.
native=$(dpkg --print-architecture)
packages=(cargo rustc gcc libc6-dev)
architectures=$native
for architecture in arm64 riscv64; do
  [ "$architecture" = "$native" ] && continue
  architectures+=,$architecture
  packages+=("libstd-rust-dev:$architecture" "libc6-dev-$architecture-cross")
done
[ "$native" = arm64 ] || packages+=(gcc-aarch64-linux-gnu)
[ "$native" = riscv64 ] || packages+=(gcc-riscv64-linux-gnu)

hash=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
mkdir -p "$cache/build"
cache=$(cd "$cache" && pwd)
root=$cache/root-$hash

exec 9>"$cache/lock"
flock 9

# Runs a command quietly; its output is shown only if it fails.
quietly() {
  "$@" >"$cache/log" 2>&1 || {
    cat "$cache/log" >&2
    echo "build.sh: failed: $*" >&2
    exit 1
  }
}

if [ ! -d "$root" ]; then
  echo "build.sh: building a root with compilers (once, some minutes)" >&2
  "$repository/scripts/need.sh" mmdebstrap >&2
  # Without it, as on Ubuntu, nothing of Debian's can be verified.
  [ -e "$keyring" ] || "$repository/scripts/need.sh" debian-archive-keyring >&2
  rm -rf --one-file-system "$root.part"
  # In a mount namespace of its own, so that an interrupted run leaves no mounts behind.
  quietly unshare --mount mmdebstrap --mode=root --variant=apt \
    --architectures="$architectures" --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$root.part" "$mirror"
  mkdir "$root.part"/{src,vendor,build}
  mv "$root.part" "$root"
fi

# The crates of this Cargo.lock. Made beside and renamed, so that what exists is complete.
lock=$(sha256sum "$repository/Cargo.lock" | cut -c1-12)
vendor=$cache/vendor-$lock
if [ ! -d "$vendor" ]; then
  echo "build.sh: fetching crates" >&2
  rm -rf "$cache"/vendor-*
  (cd "$repository" && quietly cargo vendor --locked --versioned-dirs "$vendor.part")
  mv "$vendor.part" "$vendor"
fi

echo "build.sh: compiling ($*; some minutes)" >&2
# shellcheck disable=SC2016 # the inner shell's variables
root=$root repository=$repository vendor=$vendor build=$cache/build unshare --mount \
  --propagation private bash -euc '
  mount --bind "$repository" "$root/src"
  mount -o remount,ro,bind "$root/src"
  mount --bind "$vendor" "$root/vendor"
  mount --bind "$build" "$root/build"
  mount -t proc proc "$root/proc"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -t tmpfs tmpfs "$root/dev"
  for node in "null 3" "zero 5" "urandom 9"; do
    mknod -m 666 "$root/dev/${node% *}" c 1 "${node#* }"
  done
  exec chroot "$root" env --ignore-environment --chdir=/src PATH=/usr/bin:/bin HOME=/tmp TERM=dumb \
    CARGO_TARGET_DIR=/build \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_RISCV64GC_UNKNOWN_LINUX_GNU_LINKER=riscv64-linux-gnu-gcc \
    cargo --offline --locked \
    --config source.crates-io.replace-with=\"vendored\" \
    --config source.vendored.directory=\"/vendor\" \
    "$@"
' build.sh "${arguments[@]}" >&2

[ "$*" = check ] || for target in "$@"; do
  echo "$cache/build/$(triple "$target")/release/roost"
done
