# shellcheck shell=bash
# The first process of a host, in three stages: puts its file systems together, says its process id
# and becomes its init, in namespaces of its own. The machine's /dev is never touched.
#
# A host that runs programs of other architectures has a user namespace, too: the kernel keeps
# binfmt_misc's entries apart for each (since Linux 6.7), so the machine's own stay as they are.
#
# A host whose init is systemd has a cgroup of its own, which is all that it sees of the hierarchy, and
# may change nothing of the kernel that is not its own: /proc/sys is read-only.
set -eu
stage=$1
shift
name=$1 medium=$2 root=$3 disk=$4 mnt=$5 how=$6 architectures=$7 cgroup=$8

# Goes on with another stage, by a command that runs a command.
next() {
  stage=$1
  shift
  exec "$@" -- /bin/sh -c "$LAB_BOOT" lab-boot \
    "$stage" "$name" "$medium" "$root" "$disk" "$mnt" "$how" "$architectures" "$cgroup"
}

# Still in the LAN's namespaces: the disk is mounted here, to outlive the host's power. The medium is a size in
# MiB, or an image to be made on the machine's disk. That has a file system of its own, as a board's disk: the
# machine's may be ext4 without a journal, which makes a new file the slower the more were deleted in the last
# minutes (recently_deleted, fs/ext4/ialloc.c).
disk() {
  mkdir -p "$disk" "$mnt"
  if ! mountpoint -q "$disk"; then
    case $medium in
      /*)
        mkdir -p "${medium%/*}"
        truncate --size 16G "$medium"
        mkfs.ext4 -q "$medium"
        # What mkfs has left undone stays so: nothing is written that no host has asked for.
        mount -o loop,noinit_itable "$medium" "$disk"
        ;;
      *) mount -t tmpfs -o "mode=755,size=${medium}m" disk "$disk" ;;
    esac
  fi
  next devices unshare --mount
}

# In a mount namespace of its own, with all rights of the machine: what a user namespace may not do.
devices() {
  mkdir -p "$disk/upper" "$disk/work" "$disk/nix"
  mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$mnt"
  mount --bind "$disk/nix" "$mnt/nix"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$mnt/dev"
  mknod -m 666 "$mnt/dev/null" c 1 3
  mknod -m 666 "$mnt/dev/zero" c 1 5
  mknod -m 666 "$mnt/dev/full" c 1 7
  mknod -m 666 "$mnt/dev/random" c 1 8
  mknod -m 666 "$mnt/dev/urandom" c 1 9
  mknod -m 666 "$mnt/dev/tty" c 5 0
  # A user namespace may mount these only where whole ones are; the machine's may have holes.
  mount -t proc proc "$mnt/proc"
  mount -t sysfs -o ro sysfs "$mnt/sys"

  set -- unshare --mount --net --pid --uts --ipc --fork --kill-child
  if [ -n "$cgroup" ]; then
    mkdir -p "$cgroup"
    echo 0 >"$cgroup/cgroup.procs"
    set -- "$@" --cgroup
  fi
  if [ -n "$how" ]; then
    make_user_namespace
    set -- nsenter --user=/proc/self/fd/8 "$@"
  fi
  next host "$@"
}

# Makes a user namespace in which all ids are what they are outside, and opens it as descriptor 8.
# Its first process lives until it has been opened.
make_user_namespace() {
  mkfifo "$disk/keeper"
  # shellcheck disable=SC2016 # for the shell in the namespace
  unshare --user /bin/sh -c 'read -r pid _ </proc/self/stat; echo "$pid" >"$1"; read -r _ <"$1"' \
    keeper "$disk/keeper" &
  read -r keeper <"$disk/keeper"
  echo '0 0 4294967295' >"/proc/$keeper/uid_map"
  echo '0 0 4294967295' >"/proc/$keeper/gid_map"
  exec 8<"/proc/$keeper/ns/user"
  echo >"$disk/keeper"
  rm "$disk/keeper"
}

# In all namespaces of the host.
host() {
  [ -z "$how" ] || exec 8<&-
  # From the machine's own /proc: our process id as the test process sees it.
  read -r pid _ </proc/self/stat
  # What comes from another user namespace is locked in its place; a copy of it is not.
  mount --rbind "$mnt" "$mnt"
  cd "$mnt"
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run

  mkdir -m 755 dev/pts
  mkdir -m 1777 dev/shm
  mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  ln -s /proc/self/fd/0 dev/stdin
  ln -s /proc/self/fd/1 dev/stdout
  ln -s /proc/self/fd/2 dev/stderr

  hostname "$name"
  pivot_root . mnt
  umount -l mnt
  mkdir -p /run/lab/proc /run/dbus /run/sshd /run/lock
  # One that nothing is ever mounted on: Nix's sandbox may mount its own only where a whole one is.
  mount -t proc proc /run/lab/proc
  case $how in
    emulates) register /proc/sys/fs/binfmt_misc ;;
    runs)
      # As if the CPU did it: what holds the entries is an open file of a file system out of sight.
      mkdir /run/lab/binfmt
      register /run/lab/binfmt
      exec 9</run/lab/binfmt/status
      umount -l /run/lab/binfmt
      ;;
  esac
  if [ -n "$cgroup" ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    echo "$pid"
    exec /usr/bin/env -i container=lab /usr/lib/systemd/systemd </dev/null >/dev/null 2>&1
  fi
  echo "$pid"
  exec /usr/bin/tini -s -- /usr/bin/sleep infinity </dev/null >/dev/null 2>&1
}

# Mounts binfmt_misc at a folder, and has programs of the other architectures run by qemu-user, as
# Debian's package registers it.
register() {
  if ! mount -t binfmt_misc binfmt_misc "$1"; then
    echo "$name: hosts that run foreign programs need Linux 6.7 or later, this is $(uname -r)" >&2
    exit 1
  fi
  for architecture in $architectures; do
    cat "/usr/share/qemu/binfmt.d/qemu-$architecture.conf" >"$1/register"
  done
}

"$stage"
