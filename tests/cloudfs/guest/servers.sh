# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
# shellcheck shell=bash
# Sourced in a guest: mounts a folder by one of the servers that are compared.

# Whoever sources this says where, and whose the files are.
served=${served:-} mounted=${mounted:-} owner=${owner:-65534}
# More options of the mount, each with a comma before it.
more=${more:-}
msize=${msize:-65536}

# use NAME : serves $served (a folder) by NAME and mounts it at $mounted.
use() {
	mkdir -p "$mounted"
	case $1 in
	local) mount --bind "$served" "$mounted" ;;
	virgo)
		modprobe -a 9p 9pnet_fd
		insmod-load-cloudfs
		mount -t 9p -o "trans=tcp,port=50000,version=9p2000.L,access=user,uname=root,msize=$msize$more" 127.0.0.1 "$mounted"
		;;
	diod)
		modprobe -a 9p 9pnet_fd
		diod -f -n -N -e "$served" -l 127.0.0.1:5640 >/tmp/diod.log 2>&1 &
		echo $! >/tmp/diod.pid
		wait_for_port 5640
		mount -t 9p -o "trans=tcp,port=5640,version=9p2000.L,access=user,uname=root,msize=$msize,aname=$served$more" 127.0.0.1 "$mounted"
		;;
	nfs)
		modprobe -a nfsd nfs nfsv4
		mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
		mkdir -p /var/lib/nfs/v4recovery /run/rpc_pipefs
		ip link set lo up
		echo "$served *(rw,no_root_squash,insecure,fsid=0,no_subtree_check)" >/etc/exports
		exportfs -ra
		rpc.mountd -N 2 -N 3
		rpc.nfsd -N 3 -U 2
		mount -t nfs -o "vers=4.2,proto=tcp,rsize=$((64 << 10)),wsize=$((64 << 10)),sec=sys" 127.0.0.1:/ "$mounted"
		;;
	esac
}

# unuse NAME : undoes it.
unuse() {
	umount "$mounted" || return
	case $1 in
	virgo) rmmod virgo_cloudfs ;;
	diod) kill "$(cat /tmp/diod.pid)" && wait "$(cat /tmp/diod.pid)" || true ;;
	nfs)
		rpc.nfsd 0
		exportfs -ua
		killall rpc.mountd 2>/dev/null || true
		;;
	esac
}

insmod-load-cloudfs() {
	rmmod virgo_cloudfs 2>/dev/null || true
	insmod /virgo/ko/virgo-cloudfs.ko "root=$served" "uid=$owner" "gid=$owner"
}

wait_for_port() {
	local n=0
	until (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; do
		n=$((n + 1))
		[ "$n" -lt 1000 ] || return 1
	done
}
