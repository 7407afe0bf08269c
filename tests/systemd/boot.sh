#!/bin/sh
# boot.sh FOLDER [FROM=TO...]: becomes systemd as PID 1 on a throw-away copy of this machine's files.
#
# Run by unshare as the first process of new namespaces (pid, mount, cgroup, ipc, uts, net). The root is an overlay of
# / whose changes live in memory; every FROM appears at TO in the same way. No D-Bus, no login, no network but lo.
# Prints "mounted" when everything that depends on this machine has worked.
set -eu
folder=$1
shift

mount --make-rprivate /
mount -t tmpfs -o mode=0755 box "$folder"
mkdir "$folder/root"

# Each copy needs an upper and a work directory of its own.
copy() {
  mkdir -p "$2" "$folder/upper$3" "$folder/work$3"
  mount -t overlay -o "lowerdir=$1,upperdir=$folder/upper$3,workdir=$folder/work$3" box "$2"
}

root=$folder/root
copy / "$root" 0
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 box "$root/run"
mount -t tmpfs -o mode=1777 box "$root/tmp"

mount -t tmpfs -o mode=0755 box "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 box "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

number=1
for pair in "$@"; do
  copy "${pair%%=*}" "$root${pair#*=}" $number
  number=$((number + 1))
done

# Of the distribution's units only what a service needs; the machine's own services stay out.
stock=/lib/systemd/system
units=$root/run/systemd/system
mkdir -p "$units/sockets.target.wants"
rm -rf "$root/etc/systemd/system" "$root/var/log/journal" "$root/var/lib/systemd" "$root/etc/driftd" "$root/var/lib/private"
mkdir -p "$root/etc/systemd/system"
for name in basic exit final local-fs local-fs-pre multi-user network network-online paths shutdown slices sockets \
  sysinit timers umount; do
  cp "$stock/$name.target" "$units/"
done
cp "$stock/systemd-journald.service" "$units/"
for name in systemd-journald systemd-journald-dev-log; do
  cp "$stock/$name.socket" "$units/"
  ln -s "../$name.socket" "$units/sockets.target.wants/"
done
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

cd "$root"
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
# Private mounts would not reach a service's namespace: LoadCredential= needs that.
mount --make-rshared /
echo mounted
exec env -i container=driftd-box PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/system \
  setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-syslog \
  /lib/systemd/systemd --system --unit=multi-user.target --show-status=no --log-target=console
