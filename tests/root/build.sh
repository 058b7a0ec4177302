#!/bin/bash
# Builds the cached root file system that the hosts of the lab share, and prints its path.
#
#   build.sh trixie|sid [CACHE_FOLDER]
#
# trixie is Debian 13 (Nix 2.26); sid has the newest Nix that Debian ships. A root is named after
# the hash of this script, so a changed script builds a new one and an unchanged one costs nothing.
# It is built beside its final place and renamed, so a root that exists is complete; a lock makes
# several callers wait for one build. Needs root, Debian 12 or later, and a Debian mirror
# (LAB_MIRROR, http://deb.debian.org/debian by default). About 40 s and 340 MB each.

set -euo pipefail

release=${1:?usage: build.sh trixie|sid [CACHE_FOLDER]}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${2:-$here/../../target/lab}
mirror=${LAB_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

packages=(
  nix-bin bash busybox-static tini
  dbus avahi-daemon avahi-utils libnss-mdns
  openssh-server openssh-client socat
  iproute2 iputils-ping procps faketime
)
# For hosts whose init is systemd, with Debian's own units, and what reads the package's pages.
systemd=(systemd systemd-sysv udev nix-setup-systemd bash-completion mandoc)

# Systems that a host can emulate, by Debian's name of the architecture and QEMU's. Of qemu-user and
# of their busybox only what is named in `unpack_foreign` is kept.
declare -A foreign=([riscv64-linux]='riscv64 riscv64' [aarch64-linux]='arm64 aarch64')

case $release in
  trixie)
    options=()
    packages+=("${systemd[@]}")
    ;;
  # sid's release file may have expired on a mirror that is frozen in time.
  sid) options=(--aptopt='Acquire::Check-Valid-Until "false"') ;;
  *)
    echo "build.sh: unknown release '$release': expected trixie or sid" >&2
    exit 2
    ;;
esac

# Runs a command quietly; its output is shown only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "build.sh: failed: $*" >&2
    exit 1
  fi
  rm -f "$log"
}

install_tools() {
  local missing=()
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  [ -e "$keyring" ] || missing+=(debian-archive-keyring)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
  command -v ssh-keygen >/dev/null || missing+=(openssh-client)
  [ ${#missing[@]} -eq 0 ] && return
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update
  quietly apt-get install -y --no-install-recommends "${missing[@]}"
}

# Downloads a package of another architecture into a folder. It is a static program, so any release's
# will do: a mirror that is being brought up to date may lack the index of one architecture.
fetch_foreign() {
  local package=$1 architecture=$2 folder=$3 apt suite
  apt=$(mktemp -d)
  chmod 755 "$apt"
  mkdir -p "$apt"/state/lists/partial "$apt"/cache/archives/partial
  touch "$apt"/status
  local options=(
    -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
    -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture"
    -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none
  )
  for suite in "$release" forky sid; do
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    if (
      cd "$folder" &&
        apt-get "${options[@]}" --error-on=any update &&
        apt-get "${options[@]}" download "$package"
    ) >"$apt/log" 2>&1; then
      rm -rf "$apt"
      return
    fi
    echo "build.sh: no $package for $architecture in $suite" >&2
  done
  cat "$apt/log" >&2
  rm -rf "$apt"
  exit 1
}

# qemu-user with its registrations, and a folder like /usr/lib/lab for each foreign system.
unpack_foreign() {
  local root=$1 system debian qemu wanted=()
  for system in "${!foreign[@]}"; do
    read -r debian qemu <<<"${foreign[$system]}"
    wanted+=("./usr/*qemu*$qemu*")
    mkdir -p "$root/usr/lib/lab-$system/bin"
    fetch_foreign busybox-static "$debian" "$root/srv"
    dpkg-deb --fsys-tarfile "$root"/srv/busybox-static_*_"$debian".deb |
      tar -xO ./usr/bin/busybox >"$root/usr/lib/lab-$system/bin/busybox"
    chmod 755 "$root/usr/lib/lab-$system/bin/busybox"
    ln -s busybox "$root/usr/lib/lab-$system/bin/sh"
  done
  dpkg-deb --fsys-tarfile "$root"/srv/qemu-user_*.deb |
    tar -x -C "$root" --exclude='*_be*' --wildcards "${wanted[@]}"
  rm "$root"/srv/*.deb
}

# Everything that all hosts share; what differs from host to host is written when one starts.
configure() {
  local root=$1
  # Host keys are made by each host, never shared.
  rm -f "$root"/etc/ssh/ssh_host_*
  rm -f "$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/etc/hostname

  chroot "$root" groupadd --system --force nixbld
  for n in 1 2 3 4 5 6 7 8 9 10; do
    chroot "$root" id "nixbld$n" >/dev/null 2>&1 || chroot "$root" useradd --system --no-create-home --home-dir /var/empty \
      --shell /usr/sbin/nologin --gid nixbld --groups nixbld "nixbld$n"
  done
  # roost's own user, and an ordinary one for stock Nix to log in as. '*' rather than '!': no
  # password, but not a locked account, which sshd would refuse.
  chroot "$root" useradd --system --user-group --create-home --home-dir /var/lib/roost \
    --shell /bin/sh --password '*' roost
  chroot "$root" useradd --system --user-group --create-home --home-dir /var/lib/builder \
    --shell /bin/sh --password '*' builder
  # The builder of the tests' derivations: a folder that Nix can copy to a store as it is.
  mkdir -p "$root"/usr/lib/lab/bin
  cp "$root"/usr/bin/busybox "$root"/usr/lib/lab/bin/busybox
  ln -s busybox "$root"/usr/lib/lab/bin/sh

  mkdir -p "$root"/nix "$root"/etc/nix "$root"/etc/roost "$root"/etc/ssh/authorized_keys.d

  cat >"$root"/etc/ssh/sshd_config.d/lab.conf <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
PasswordAuthentication no
UseDNS no
END
  cat >"$root"/etc/avahi/avahi-daemon.conf <<'END'
[server]
use-ipv4=yes
use-ipv6=yes
allow-interfaces=eth0
disallow-other-stacks=no
ratelimit-interval-usec=1000000
ratelimit-burst=1000

[wide-area]
enable-wide-area=no

[publish]
disable-publishing=no
disable-user-service-publishing=no
publish-addresses=yes
publish-aaaa-on-ipv4=yes
publish-hinfo=no
publish-workstation=no
END
}

hash=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
final=$cache/root-$release-$hash

exec 9>"$cache/root-$release.lock"
flock 9
if [ ! -d "$final" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "build.sh: building $final needs root" >&2
    exit 1
  fi
  echo "build.sh: building the $release root of the lab (once, about 40 s)" >&2
  install_tools
  rm -rf --one-file-system "$final.part"
  # In a mount namespace of its own, so that an interrupted run leaves no mounts behind.
  # shellcheck disable=SC2016 # the hook is for mmdebstrap's shell
  quietly unshare --mount mmdebstrap --mode=root --variant=minbase \
    --include="$(IFS=,; echo "${packages[*]}")" "${options[@]}" \
    --customize-hook='cd "$1/srv" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download qemu-user' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$release" "$final.part" "$mirror"
  unpack_foreign "$final.part"
  configure "$final.part" >&2
  mv "$final.part" "$final"
fi
echo "$final"
