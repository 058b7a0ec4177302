#!/bin/bash
# Makes a guest: a disk image as a board takes it, of Debian 13's packages and roost's own files, for QEMU's
# virt machine. Prints the folder where it is. No foreign code is run.
#
#   build.sh aarch64|riscv64 --program ROOST --pages-by ROOST
#
# In the folder are image.img, to be flashed; kernel, initrd and cmdline, to start it without its boot loader;
# and firmware, what starts the boot loader. --program is roost for the guest, --pages-by one that runs here
# and writes the man pages. Everything is kept in the folder QEMU_CACHE, target/qemu by default. Needs root,
# Debian 12 or later, and a Debian mirror (LAB_MIRROR, http://deb.debian.org/debian by default).

set -euo pipefail

usage() {
  echo "usage: build.sh aarch64|riscv64 --program ROOST --pages-by ROOST" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${QEMU_CACHE:-$repository/target/qemu}
mirror=${LAB_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

arch=${1:-}
[ "$#:${2:-}:${4:-}" = 5:--program:--pages-by ] || usage
program=$3 pages_by=$5

# The root's type in a GPT is the architecture's (Discoverable Partitions Specification).
case $arch in
  aarch64)
    debian=arm64 console=ttyAMA0
    root_type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE
    boot_packages=(systemd-boot-efi)
    firmware=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd
    firmware_package=qemu-efi-aarch64
    ;;
  riscv64)
    debian=riscv64 console=ttyS0
    root_type=72EC70A6-CF74-40E6-BD49-4BDA08E8F224
    boot_packages=()
    firmware=/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin
    firmware_package=u-boot-qemu
    ;;
  *) usage ;;
esac
board=qemu-$arch-virt
root_label=roost-root
# A name that the program, its units and the images share.
shared_name() {
  sed -n "s/^ *\"$1\": \"\(.*\)\",*\$/\1/p" "$repository"/appliance/names.json
}
seed_label=$(shared_name seed_label)
image_file=$(shared_name image_file)

packages=(
  avahi-daemon base-files base-passwd bash busybox-static coreutils dash dbus diffutils findutils gcc grep gzip
  hostname init-system-helpers iproute2 kmod libc6-dev libc-bin libnss-systemd "linux-image-$debian" login mawk
  nix-bin nix-setup-systemd openssh-server passwd procps sed systemd-repart systemd-sysv tar udev util-linux
  "${boot_packages[@]}"
)
# What the initrd needs to reach the root.
modules=(virtio_pci virtio_mmio virtio_blk ext4)
units=(
  avahi-daemon.service guest-booted-system.service nix-daemon.socket roost-first-boot.service
  roost-update-trial.service roost-update.path roost.service ssh.service systemd-networkd.service
)
# What does nothing for a guest, or what an image has done when it was made: an emulator is slow to start each.
masked=(
  dev-hugepages.mount dev-mqueue.mount run-lock.mount sys-kernel-debug.mount sys-kernel-tracing.mount tmp.mount
  kmod-static-nodes.service ldconfig.service modprobe@{configfs,dm_mod,drm,fuse,loop}.service
  systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-journal-flush.service
  systemd-logind.service systemd-modules-load.service systemd-network-generator.service
  systemd-networkd-persistent-storage.service systemd-pstore.service systemd-random-seed.service
  systemd-sysctl.service systemd-tmpfiles-setup-dev{,-early}.service systemd-udev-load-credentials.service
)
# Modules for what QEMU's machine does not have.
no_modules=(drivers net/bluetooth net/mac80211 net/wireless sound)
but_modules=(drivers/block drivers/char drivers/net/virtio_net drivers/net/net_failover drivers/rtc drivers/virtio)

"$repository/scripts/need.sh" mmdebstrap mkfs.ext4=e2fsprogs mkfs.vfat=dosfstools mcopy=mtools sfdisk=fdisk \
  depmod=kmod cpio xz=xz-utils systemctl=systemd >&2
# Without it, as on Ubuntu, nothing of Debian's can be verified.
[ -e "$keyring" ] || "$repository/scripts/need.sh" debian-archive-keyring >&2
[ -e "$firmware" ] || "$repository/scripts/need.sh" "$firmware_package" >&2

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
exec 9>"$cache/lock-$arch"
flock 9

# Runs a command quietly; its output is shown only if it fails.
quietly() {
  "$@" >"$cache/log-$arch" 2>&1 || {
    cat "$cache/log-$arch" >&2
    echo "build.sh: failed: $*" >&2
    exit 1
  }
}

# Debian's packages, unpacked and not configured; what their scripts would have made is made here, or by
# systemd-sysusers and systemd-tmpfiles when the guest starts.
make_root() {
  local root=$1 version folder without=()
  for folder in "${no_modules[@]}"; do
    without+=("--dpkgopt=path-exclude=/usr/lib/modules/*/kernel/$folder/*")
  done
  for folder in "${but_modules[@]}"; do
    without+=("--dpkgopt=path-include=/usr/lib/modules/*/kernel/$folder*")
  done
  # In a mount namespace of its own, so that an interrupted run leaves no mounts behind.
  quietly unshare --mount mmdebstrap --mode=root --variant=extract --architectures="$debian" \
    --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/lib/linux-image-*' \
    --dpkgopt='path-exclude=/usr/lib/udev/hwdb.d/*' "${without[@]}" \
    trixie "$root" "$mirror"
  version=$(basename "$root"/usr/lib/modules/*)
  # Unpacked here once, and not there each time.
  find "$root"/usr/lib/modules -name '*.ko.xz' -print0 | xargs -0 -r xz -d
  depmod -b "$root" "$version"
  cp "$root"/usr/share/base-passwd/passwd.master "$root"/etc/passwd
  cp "$root"/usr/share/base-passwd/group.master "$root"/etc/group
  install -m 640 /dev/null "$root"/etc/shadow
  # Nobody has a password: a key opens root, from a seed.
  awk -F: '{ print $1 ":*:20000::::::" }' "$root"/etc/passwd >"$root"/etc/shadow
  cp "$root"/usr/share/openssh/sshd_config "$root"/etc/ssh/sshd_config
  rm -f "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/fstab "$root"/etc/machine-id
  # Empty, the first boot makes one; there is one then, so that it is not asked what to preset.
  : >"$root"/etc/machine-id
  cp "$root"/usr/share/libc-bin/nsswitch.conf "$root"/etc/nsswitch.conf
  rm -rf "$root"/var/run "$root"/var/lock
  ln -s /run "$root"/var/run
  ln -s /run/lock "$root"/var/lock
  ln -s mawk "$root"/usr/bin/awk
  # Its links would be asked of Debian's own program, which is foreign.
  rm -rf "$root"/etc/init.d "$root"/etc/rc?.d
  rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/usr/share/i18n
}

# A busybox that loads the modules, waits for the root, and goes on there.
make_initrd() {
  local root=$1 initrd=$2 tree=$2.tree version module file
  version=$(basename "$root"/usr/lib/modules/*)
  mkdir -p "$tree"/{bin,dev,proc,sys,root,modules}
  cp "$root"/usr/bin/busybox "$tree"/bin/busybox
  cp "$here"/init "$tree"/init
  # In the order in which they are to be loaded.
  : >"$tree"/modules/order
  for module in "${modules[@]}"; do
    modprobe --dirname "$root" --set-version "$version" --ignore-install --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    module=$(basename "$file")
    cp "$file" "$tree/modules/$module"
    echo "$module" >>"$tree"/modules/order
  done
  (cd "$tree" && find . | cpio --quiet --reproducible -o -H newc -R 0:0) | gzip -n >"$initrd"
  rm -rf "$tree"
}

# Lays our files over the root, as an overlay in this mount namespace: the root itself stays as it is.
lay_over() {
  local folder=$1
  mkdir -p "$folder"/{over,work,merged}
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$folder/over,workdir=$folder/work" "$folder"/merged
  cp -r --no-preserve=ownership "$here"/root/. "$folder"/merged/
  # What the architecture's board is built as.
  echo "$arch-linux" >"$folder"/merged/usr/lib/guest/system/system
  quietly "$repository"/appliance/share/install.sh --program "$program" --destdir "$folder"/merged \
    --pages-by "$pages_by"
  quietly systemctl --root="$folder"/merged enable "${units[@]}"
  quietly systemctl --root="$folder"/merged mask "${masked[@]}"
}

fat() {
  local image=$1 mib=$2 label=$3
  truncate -s "${mib}M" "$image"
  quietly mkfs.vfat -F 32 -n "$label" "$image"
}

# The disk: what images/gpt.nix makes for the same board.
make_image() {
  local folder=$1 merged=$1/merged cmdline kernel
  kernel=$(echo "$base"/boot/vmlinu[xz]-*)
  cmdline="root=LABEL=$root_label rw panic=30 console=$console"
  cp "$kernel" "$folder"/kernel
  cp "$base".initrd "$folder"/initrd
  echo "$cmdline" >"$folder"/cmdline
  cp "$firmware" "$folder"/firmware

  fat "$folder"/seed.part 36 "$seed_label"
  printf '{"board":"%s","version":"%s"}' "$board" "$(cargo_version)" >"$folder/$image_file"
  mcopy -i "$folder"/seed.part "$folder/$image_file" ::
  local parts=("$folder"/seed.part) table
  table="label: gpt
size=36MiB, type=linux, name=seed"
  if [ "$arch" = aarch64 ]; then
    fat "$folder"/esp.part 64 ESP
    mmd -i "$folder"/esp.part ::EFI ::EFI/BOOT ::loader ::loader/entries
    mcopy -i "$folder"/esp.part "$base"/usr/lib/systemd/boot/efi/systemd-bootaa64.efi ::EFI/BOOT/BOOTAA64.EFI
    mcopy -i "$folder"/esp.part "$folder"/kernel "$folder"/initrd ::
    printf 'title Debian\nlinux /kernel\ninitrd /initrd\noptions %s\n' "$cmdline" |
      mcopy -i "$folder"/esp.part - ::loader/entries/debian.conf
    printf 'timeout 0\n' | mcopy -i "$folder"/esp.part - ::loader/loader.conf
    rm -rf "${merged:?}"/boot/*
    echo 'LABEL=ESP /boot vfat umask=0077,noauto,x-systemd.automount 0 2' >>"$merged"/etc/fstab
    parts+=("$folder"/esp.part)
    table+="
size=64MiB, type=uefi, name=ESP"
  else
    mkdir -p "$merged"/boot/extlinux
    cp "$folder"/initrd "$merged"/boot/initrd
    printf 'default debian\nlabel debian\n  linux /boot/%s\n  initrd /boot/initrd\n  append %s\n' \
      "$(basename "$kernel")" "$cmdline" >"$merged"/boot/extlinux/extlinux.conf
  fi
  # A fifth more than is in it; it grows to the disk when it starts.
  truncate -s "$(($(du -sm --apparent-size "$merged" | cut -f1) * 6 / 5 + 64))M" "$folder"/root.part
  quietly mkfs.ext4 -q -i 8192 -L "$root_label" -E nodiscard,lazy_itable_init=1 -d "$merged" "$folder"/root.part
  parts+=("$folder"/root.part)
  table+="
size=$(($(stat -c %s "$folder"/root.part) / 1048576))MiB, type=$root_type, name=$root_label, attrs=LegacyBIOSBootable"

  local offset_mib=1 part mib
  for part in "${parts[@]}"; do
    mib=$(($(stat -c %s "$part") / 1048576))
    dd if="$part" of="$folder"/image.img bs=1M seek="$offset_mib" conv=sparse,notrunc status=none
    offset_mib=$((offset_mib + mib))
  done
  # And the table's copy.
  truncate -s "$((offset_mib + 1))M" "$folder"/image.img
  quietly sfdisk --quiet "$folder"/image.img <<<"$table"
  rm "${parts[@]}" "$folder/$image_file"
}

cargo_version() {
  sed -n 's/^version = "\(.*\)"/\1/p' "$repository"/Cargo.toml | head -n 1
}

# Run again in a mount namespace of its own, where the overlay vanishes with it.
if [ "${GUEST_NAMESPACE:-}" != 1 ]; then
  GUEST_NAMESPACE=1 exec unshare --mount --propagation private "${BASH_SOURCE[0]}" "$@"
fi

base_hash=$(cat "${BASH_SOURCE[0]}" "$here"/init | sha256sum | cut -c1-12)
base=$cache/root-$arch-$base_hash
if [ ! -d "$base" ]; then
  echo "build.sh: unpacking Debian for $arch (once, a minute)" >&2
  rm -rf --one-file-system "$cache/root-$arch"-*
  make_root "$base.part"
  make_initrd "$base.part" "$base.initrd"
  mv "$base.part" "$base"
fi

hash=$({
  echo "$base_hash"
  cat "$program" "$firmware"
  find "$here"/root "$repository"/appliance/share -type f -print0 | sort -z | xargs -0 sha256sum
} | sha256sum | cut -c1-12)
final=$cache/guest-$arch-$hash
if [ ! -d "$final" ]; then
  echo "build.sh: making the image for $arch (some seconds)" >&2
  rm -rf --one-file-system "$cache/guest-$arch"-*
  mkdir "$final.part"
  lay_over "$final.part"
  make_image "$final.part"
  umount "$final.part"/merged
  rm -rf --one-file-system "$final.part"/{over,work,merged}
  mv "$final.part" "$final"
fi
echo "$final"
