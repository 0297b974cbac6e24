#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
#
# In a guest: prove.sh SERVER : programs that others wrote, on a mount of SERVER (local, virgo, diod),
# as an ordinary user. "ok NAME" or "FAIL NAME" a line, and what a failure said.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck source=tests/cloudfs/guest/servers.sh
. "$here/servers.sh"
server=$1
served=/srv/prove mounted=/mnt/prove owner=1000
# Without it the client refuses to map a file shared and writable, whoever serves it.
more=,cache=mmap
# Seconds that a check may take; the long ones are long on an emulated machine.
limit=${LIMIT:-1200}
rm -rf "$served"
mkdir -p "$served" /srv/aside
chown $owner:$owner "$served" /srv/aside
use "$server" || exit 1
export HOME=/srv/aside GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
cd "$mounted" || exit 1

prove() { # NAME SCRIPT
	local said
	[[ $1 =~ ${ONLY:-.} ]] || return 0
	if said=$(setpriv --reuid $owner --regid $owner --clear-groups timeout "$limit" bash -euc "cd '$mounted'; $2" 2>&1 </dev/null); then
		echo "ok $1"
	else
		case $? in
		124) echo "FAIL $1 (not done in $limit s)" ;;
		*) echo "FAIL $1" ;;
		esac
		printf '%s\n' "$said" | tail -n 8 | sed 's/^/  | /'
	fi
}

prove "fsx, ${FSX:-100000} operations" "/virgo/bin/tests/bench-cloudfs fsx . ${FSX:-100000}"
prove 'git clone and fsck' '
	mkdir -p /srv/aside/repo; cd /srv/aside/repo; git init -q .; cp -r /usr/include/linux .; git add -A
	git commit -qm one; cp -r /usr/include/asm-generic .; git add -A; git commit -qm two
	cd -; git clone -q /srv/aside/repo clone; cd clone; git fsck --full --strict
	git checkout -q HEAD~1; git checkout -q -; git gc -q; git status --porcelain | (! grep .)'
prove 'building a C project' '
	mkdir build; cd build
	for n in 1 2 3 4 5 6 7 8; do echo "int f$n(int x) { return x + $n; }" > f$n.c; done
	{ for n in 1 2 3 4 5 6 7 8; do echo "int f$n(int);"; done; echo "#include <stdio.h>
	int main(void) { printf(\"%d\\n\", f1(f2(f3(f4(f5(f6(f7(f8(0))))))))); return 0; }"; } > main.c
	printf "objects = main.o f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o\nprogram: \$(objects)\n\tgcc -o \$@ \$(objects)\n" > Makefile
	make -s -j2 program; [ "$(./program)" = 36 ]; touch f3.c; make -s | (! grep "up to date"); make -s | grep -q "up to date\|^$" || true
	make -q program'
prove 'fio with verify, random and sequential' '
	mkdir fio; cd fio
	fio --name=a --rw=randwrite --bs=4k-64k --size=16M --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none --ioengine=psync --minimal
	fio --name=b --rw=write --bs=128k --size=32M --verify=md5 --verify_fatal=1 --fallocate=none --ioengine=psync --numjobs=2 --minimal'
prove 'fio with verify, mapped' '
	cd fio; fio --name=c --rw=randwrite --bs=4k --size=4M --verify=crc32c --verify_fatal=1 --fallocate=none --ioengine=mmap --minimal'
prove 'rsync there and back' '
	mkdir -p /srv/aside/tree; cp -r /usr/include/linux /srv/aside/tree/; ln -sf linux/fs.h /srv/aside/tree/link
	ln -f /srv/aside/tree/linux/fs.h /srv/aside/tree/hard
	rsync -aH --checksum /srv/aside/tree/ tree/; rsync -aH --checksum tree/ /srv/aside/back/
	diff -r --no-dereference /srv/aside/tree /srv/aside/back
	[ -z "$(rsync -aHni --checksum --delete /srv/aside/tree/ tree/)" ]'
prove 'sqlite, rollback journal' '
	sqlite3 a.db "create table t(a integer primary key, b text); begin; with recursive n(i) as (select 1 union all select i+1 from n where i < 5000) insert into t select i, hex(randomblob(100)) from n; commit; delete from t where a % 3 = 0; vacuum;"
	[ "$(sqlite3 a.db "pragma integrity_check; select count(*) from t")" = "ok
3334" ]'
prove 'sqlite, four writers' '
	sqlite3 b.db "create table t(a);"
	for n in 1 2 3 4; do ( for m in $(seq 25); do sqlite3 -cmd ".timeout 60000" b.db "insert into t values($n * 1000 + $m)"; done ) & done; wait
	[ "$(sqlite3 b.db "pragma integrity_check; select count(*), count(distinct a) from t")" = "ok
100|100" ]'
prove 'dbench, 2 clients' '
	mkdir dbench; dbench -D "$PWD/dbench" -t 15 2 | tail -n 3'
prove 'tar, a thousand files' '
	tar -C /usr/include -cf /srv/aside/a.tar linux; mkdir tar; tar -C tar -xpf /srv/aside/a.tar
	diff -r /usr/include/linux tar/linux; rm -r tar'
prove 'locks between programs' '
	( flock -x 9; echo 1 >> order; sleep 1; echo 2 >> order ) 9>lock & sleep 0.3
	( flock -x 9; echo 3 >> order ) 9>lock; wait; [ "$(tr -d "\n" < order)" = 123 ]'
prove 'attributes' '
	echo x > attr; setfattr -n user.name -v value attr; [ "$(getfattr --only-values -n user.name attr)" = value ]
	setfattr -x user.name attr; ! getfattr -n user.name attr 2>/dev/null'
prove 'names of every byte' '
	mkdir names; cd names; n=0
	for i in $(seq 1 255); do c=$(printf "\\\\x%02x" $i); name=$(printf "a${c}b"); [ "$i" = 10 ] || [ "$i" = 47 ] || { : > "$name"; n=$((n + 1)); }; done
	[ "$(find . -type f -print0 | tr -dc "\0" | wc -c)" = 253 ]; rm -r ../names'
prove 'removing all of it' 'rm -rf ./* && [ -z "$(ls -A)" ]'
cd /
unuse "$server"
