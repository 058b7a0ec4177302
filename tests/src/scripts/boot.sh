# shellcheck shell=bash
# The first process of a host: puts its file systems together, says its process id and becomes its
# init, in namespaces of its own. The machine's /dev is never touched.
set -eu
name=$1 size_mib=$2 root=$3 disk=$4 mnt=$5

if [ "$$" != 1 ]; then
  # Still in the LAN's namespaces: a disk in memory is mounted here, to outlive the host's power.
  mkdir -p "$disk" "$mnt"
  if [ -n "$size_mib" ] && ! mountpoint -q "$disk"; then
    mount -t tmpfs -o "mode=755,size=${size_mib}m" disk "$disk"
  fi
  exec unshare --mount --net --pid --uts --ipc --fork --kill-child -- \
    /bin/sh -c "$LAB_BOOT" lab-boot "$@"
fi
# From the machine's own /proc: our process id as the test process sees it.
read -r pid _ </proc/self/stat

mkdir -p "$disk/upper" "$disk/work" "$disk/nix"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$mnt"
mount --bind "$disk/nix" "$mnt/nix"
mount -t proc proc "$mnt/proc"
mount -t sysfs -o ro sysfs "$mnt/sys"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$mnt/run"
mount -t tmpfs -o mode=755,nosuid tmpfs "$mnt/dev"

cd "$mnt/dev"
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
mknod -m 666 tty c 5 0
mkdir -m 755 pts
mkdir -m 1777 shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs shm
ln -s pts/ptmx ptmx
ln -s /proc/self/fd fd
ln -s /proc/self/fd/0 stdin
ln -s /proc/self/fd/1 stdout
ln -s /proc/self/fd/2 stderr

hostname "$name"
cd "$mnt"
pivot_root . mnt
umount -l mnt
mkdir -p /run/lab /run/dbus /run/sshd /run/lock
echo "$pid"
exec /usr/bin/tini -s -- /usr/bin/sleep infinity </dev/null >/dev/null 2>&1
