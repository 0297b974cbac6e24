#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
#
# In a guest: bench.sh ops|seq SERVER… : measures each server on a tmpfs; "SERVER NAME VALUE" a line.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=tests/cloudfs/guest/servers.sh
. "$here/servers.sh"
what=$1
shift
served=/srv/bench mounted=/mnt/bench owner=65534
mkdir -p "$served"
mount -t tmpfs -o size=600M,mode=777 none "$served"
for server in "$@"; do
	use "$server"
	case $what in
	ops) /virgo/bin/tests/bench-cloudfs ops "$mounted" 400 ;;
	seq) /virgo/bin/tests/bench-cloudfs seq "$mounted" 256 ;;
	esac | sed "s/^/$server /"
	unuse "$server"
done
