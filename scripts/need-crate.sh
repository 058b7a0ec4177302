#!/bin/bash
# Installs a program from crates.io, if it is not here yet. Some minutes, once.
#
#   need-crate.sh PROGRAM

set -euo pipefail

command -v "$1" >/dev/null && exit
echo "installing $1 with cargo: some minutes, once"
cargo install --quiet --locked "$1" || {
  echo "need-crate.sh: cannot install $1; is crates.io reachable?" >&2
  exit 1
}
command -v "$1" >/dev/null || {
  echo "need-crate.sh: $1 is installed, but ${CARGO_HOME:-$HOME/.cargo}/bin is not on PATH" >&2
  exit 1
}
