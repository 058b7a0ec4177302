#!/bin/bash
# Puts roost's program and the files that go with it where a distribution has them.
#
#   install.sh --program BUILT_ROOST [--destdir DIR] [--prefix PREFIX] [--sysconfdir DIR]
#              [--pages-by ROOST]
#
# --destdir is where a package is put together, in front of all else; --prefix is /usr and
# --sysconfdir /etc unless given. Man pages and completions are written by the program itself, or, if
# it is for another machine, by the one of --pages-by. Nothing is enabled, started or made beyond files:
# docs/packaging.md tells what is to be done then.

set -euo pipefail

fail() {
  echo "install.sh: $1" >&2
  exit 2
}

share=$(cd "$(dirname "$0")" && pwd)
destdir='' prefix=/usr sysconfdir=/etc program='' pages_by=''
while [ $# -gt 0 ]; do
  option=$1
  [ $# -ge 2 ] || fail "$option needs a value"
  case $option in
    --program) program=$2 ;;
    --destdir) destdir=${2%/} ;;
    --prefix) prefix=${2%/} ;;
    --sysconfdir) sysconfdir=${2%/} ;;
    --pages-by) pages_by=$2 ;;
    *) fail "unknown option $option" ;;
  esac
  shift 2
done
[ -n "$program" ] || fail "--program is missing: the roost that was built"
[ -x "$program" ] || fail "$program is not there; build it with: cargo build --release -p roost"
case $prefix in /*) ;; *) fail "--prefix is to be absolute, not '$prefix'" ;; esac
case $sysconfdir in /*) ;; *) fail "--sysconfdir is to be absolute, not '$sysconfdir'" ;; esac

# Copies files to a folder, with the program's name as it is there.
put() {
  folder=$destdir$1
  shift
  install -d -m 755 "$folder"
  for file in "$@"; do
    target=$folder/$(basename "$file")
    install -m 644 "$file" "$target"
    [ "$prefix" = /usr ] || sed -i "s|/usr/bin/roost|$prefix/bin/roost|g" "$target"
  done
}

# dbus reads policies of /usr/local nowhere.
case $prefix in
  /usr/local) policies=$sysconfdir/dbus-1/system.d ;;
  *) policies=$prefix/share/dbus-1/system.d ;;
esac

# Nix has put it there already.
target=$destdir$prefix/bin/roost
[ "$program" -ef "$target" ] || install -D -m 755 "$program" "$target"
put "$prefix/lib/systemd/system" "$share"/systemd/system/*
put "$prefix/lib/sysusers.d" "$share"/sysusers.d/*
put "$prefix/lib/tmpfiles.d" "$share"/tmpfiles.d/*
put "$prefix/share/roost" "$share"/roost/*
put "$policies" "$share"/dbus-1/system.d/*
put "$sysconfdir/ssh/sshd_config.d" "$share"/ssh/sshd_config.d/*
"${pages_by:-$program}" pages "$destdir$prefix/share"
