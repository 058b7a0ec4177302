# shellcheck shell=bash
# The init of a LAN's pid namespace: owns the bridge and the hosts' disks. Runs until its standard
# input closes, which happens however the test process ends. Its end takes every process, mount,
# interface and namespace of the LAN along: all of them live only in its namespaces.
set -eu
folder=$1 cgroup=$2
# From the machine's own /proc: our process id as the test process sees it.
read -r pid _ </proc/self/stat
mount -t tmpfs -o mode=755 lab "$folder/mnt"
ip link set lo up
ip link add lan type bridge forward_delay 0 stp_state 0 mcast_snooping 0
ip link set lan up
echo "$pid"
while read -r _; do :; done
kill -9 -1 || :
# Its cgroups can go when everything in them has.
tries=0
while [ -d "$cgroup" ] && [ $tries -lt 100 ]; do
  find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  tries=$((tries + 1))
done
umount -R -l "$folder/mnt" || :
rm -rf --one-file-system "$folder"
