#!/bin/bash
# Installs the Debian packages that provide the given commands, if those are not here yet.
#
#   need.sh COMMAND[=PACKAGE]...
#
# Needs root and a Debian mirror only if something is missing.

set -euo pipefail

missing=()
for need in "$@"; do
  command -v "${need%%=*}" >/dev/null || missing+=("${need##*=}")
done
[ ${#missing[@]} -eq 0 ] && exit

echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# apt waits for nobody, and there may be two of us.
if [ -d /var/lib/apt ]; then
  exec 9</var/lib/apt
  flock 9
fi
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null || {
  echo "need.sh: cannot install ${missing[*]}; is this Debian, are you root, is a mirror set?" >&2
  exit 1
}
