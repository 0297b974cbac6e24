# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
#
# What the scripts of this repository share. Source it; it runs nothing.
#
#   REPO    the repository (absolute)
#   CACHE   ${XDG_CACHE_HOME:-~/.cache}/virgo, where all that can be made again is kept
#   ROOT    $CACHE/root, the Debian root everything is built and run in (see in-root)
#
# VIRGO_SUITE names another Debian than trixie for that root, which is $CACHE/root-SUITE then: the
# kernels of that suite are built for there, with its compilers (make test-kernels).

set -euo pipefail
umask 022

REPO=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${HOME:=/root}"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/virgo
VIRGO_HOME_SUITE=trixie
VIRGO_SUITE=${VIRGO_SUITE:-$VIRGO_HOME_SUITE}
case $VIRGO_SUITE in
"$VIRGO_HOME_SUITE") ROOT=$CACHE/root ;;
*[!a-z]*) printf '"%s" is not the name of a Debian suite\n' "$VIRGO_SUITE" >&2; exit 2 ;;
*) ROOT=$CACHE/root-$VIRGO_SUITE ;;
esac
# shellcheck disable=SC2034 # for those who source this
ROOT=${VIRGO_ROOT:-$ROOT}
PROG=${0##*/}
export REPO CACHE VIRGO_SUITE

# Messages go to stderr: stdout belongs to what a script was asked for.
say()  { printf '%s\n' "$*" >&2; }
warn() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die()  { printf '%s: %s\n' "$PROG" "$*" >&2; exit 1; }
usage_error() { printf '%s: %s (see %s --help)\n' "$PROG" "$*" "$PROG" >&2; exit 2; }

# The comment block at the top of the calling script is its help.
show_help() {
	sed -n '/^# SPDX/d; /^#!/d; /^#/!q; s/^# \{0,1\}//; p' "$0" | sed '1{/^$/d}'
}

# step TEXT CMD… : one line when it starts, one a quarter of a minute while it runs, one when it
# ends. The output goes to a log, whose end is shown if the command fails.
step() {
	local text=$1 log status=0 start=$SECONDS
	shift
	mkdir -p "$CACHE/log"
	log=$(mktemp -p "$CACHE/log")
	say "  $text …"
	if [ -n "${VIRGO_VERBOSE:-}" ]; then
		"$@" 2>&1 </dev/null | tee "$log" >&2 || status=$?
	else
		# The command's own status is wanted, not the filter's: pipefail gives it, as the filter
		# always ends with 0.
		"$@" 2>&1 </dev/null | progress_filter "$log" || status=$?
	fi
	if [ "$status" -ne 0 ]; then
		say "  $text: failed with status $status after $((SECONDS - start)) s; the end of its output:"
		tail -n "${VIRGO_LOG_LINES:-40}" "$log" | sed 's/^/    | /' >&2
		say "  the whole of it: $log"
		return "$status"
	fi
	say "  $text: done in $((SECONDS - start)) s"
	rm -f "$log"
}

progress_filter() {
	local line last=$SECONDS start=$SECONDS
	while IFS= read -r line || [ -n "$line" ]; do
		printf '%s\n' "$line" >&4
		if [ $((SECONDS - last)) -ge 15 ] && [ -n "${line// /}" ]; then
			last=$SECONDS
			printf '    %4d s: %.90s\n' $((SECONDS - start)) "$line" >&2
		fi
	done 4>>"$1"
	return 0
}

# with_lock NAME CMD… : one run at a time; whoever waits is told for what.
with_lock() {
	local lock_name=$1
	shift
	mkdir -p "$CACHE/lock"
	(
		if ! flock -n 9; then
			say "  waiting for another run that holds the lock \"$lock_name\" …"
			flock 9
		fi
		"$@"
	) 9>"$CACHE/lock/$lock_name"
}

# hash_of WORD… : a short key for what something was made from.
hash_of() { printf '%s\n' "$@" | sha256sum | cut -c1-16; }

is_root() { [ "$(id -u)" -eq 0 ]; }

inside_root() { [ -e /.virgo-root ]; }

# The site that the host's own apt takes Debian from; empty where there is none.
host_site() {
	command -v apt-get >/dev/null || return 0
	# shellcheck disable=SC2016 # apt's own placeholders
	apt-get indextargets --format '$(SITE) $(ORIGIN) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "Debian" && $3 !~ /security|-/ { print $1; exit }' || true
}

# apt_update [PREFIX…] : apt-get update, by way of the command PREFIX. A mirror that lags serves a
# Release file past its Valid-Until: accepted for this one call, and said.
apt_update() {
	local out
	if out=$("$@" apt-get update -q 2>&1 </dev/null); then
		printf '%s\n' "$out"
		return 0
	fi
	printf '%s\n' "$out"
	if printf '%s' "$out" | grep -Eq 'Release file .*(expired|not valid anymore)'; then
		say "  the mirror's Release file is past its Valid-Until: accepting it for this one call"
		"$@" apt-get -o Acquire::Check-Valid-Until=false update -q 2>&1 </dev/null
		return
	fi
	return 1
}

# enter_root ARG… : the calling script goes on inside the build root (made if need be).
enter_root() {
	inside_root && return 0
	exec "$REPO/scripts/in-root" -- "$REPO/scripts/$PROG" "$@"
}

# kernel_release NAME : the release that stock, next, testing, or debug stands for; a release is
# itself.
kernel_release() {
	case $1 in
	stock | next | testing)
		[ -s "$CACHE/kernel/names/$1" ] || "$REPO/scripts/setup" --kernel "$1" >&2 || return
		cat "$CACHE/kernel/names/$1"
		;;
	debug)
		[ -s "$CACHE/kernel/names/debug" ] || "$REPO/scripts/build-debug-kernel" >&2 || return
		cat "$CACHE/kernel/names/debug"
		;;
	'' | *[!A-Za-z0-9.+~_-]* | -* | .*) die "\"$1\" is not a kernel release (stock, next, testing, debug, or as uname -r prints it)" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# kernel_dir RELEASE : the headers to build modules for it with, as seen in the root.
kernel_dir() {
	if [ -e "$CACHE/kernel/$1/kdir/Makefile" ]; then
		printf '%s\n' "$CACHE/kernel/$1/kdir"
	else
		printf '%s\n' "/usr/src/linux-headers-$1"
	fi
}

# kernel_suite RELEASE : the Debian whose root has its headers and its compiler.
kernel_suite() {
	cat "$CACHE/kernel/$1/suite" 2>/dev/null || printf '%s\n' "$VIRGO_HOME_SUITE"
}
