# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
# shellcheck shell=sh
# What load, unload and status share. Sourced, not run.

# Every module before those that need it.
# shellcheck disable=SC2034
virgo_modules='virgo-core virgo-analytics virgo-eventnet virgo-queue virgo-mempool virgo-cloudfs virgo-cpupool virgo-profiler'

say() {
    echo "${0##*/}: $*" >&2
}

known_module() {
    case " $virgo_modules " in *" $1 "*) return 0 ;; esac
    return 1
}

# The kernel's name for a module has underscores.
kernel_name() {
    echo "$1" | tr - _
}

is_loaded() {
    [ -d "/sys/module/$(kernel_name "$1")" ]
}

# The first folder that has this kernel's modules.
find_modules_dir() {
    # Set by who sources this: the folder of the scripts.
    # shellcheck disable=SC2154
    base=$(dirname -- "$here")
    release=$(uname -r)
    for candidate in "$base/ko" "$base/build/$release/ko" \
        "/lib/modules/$release/updates" "/lib/modules/$release/updates/dkms"; do
        if [ -f "$candidate/virgo-core.ko" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# Prints the name=value words of a configuration file; nothing where there is none.
read_parameters() {
    [ -e "$1" ] || return 0
    [ -r "$1" ] || { say "cannot read $1"; return 1; }
    number=0
    words=
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%%#*}
        # Without the white space around it.
        line=$(printf '%s' "$line" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; s/[[:space:]]*=[[:space:]]*/=/')
        [ -n "$line" ] || continue
        case $line in
        *[[:space:]\*\?\[]* | =* | *[!a-z0-9_]*=*)
            say "$1, line $number: '$line' is not name=value"
            return 1
            ;;
        *=?*) words="$words $line" ;;
        *)
            say "$1, line $number: '$line' is not name=value"
            return 1
            ;;
        esac
    done < "$1"
    echo "${words# }"
}

# What a module said to the kernel's log, or virgo-core of it, without time stamps.
kernel_said() {
    dmesg 2>/dev/null | grep -E " ($(kernel_name "$1")|virgo_core): " | tail -n 3 | sed 's/^\[[^]]*\] */    kernel: /'
}

explain_failure() {
    say "$1 was not loaded: $3"
    case $3 in
    *"Invalid module format"*)
        built_for=$(modinfo -F vermagic "$2" 2>/dev/null | cut -d' ' -f1)
        if [ "$built_for" = "$(uname -r)" ]; then
            say "it is of another build than the loaded virgo-core: unload all ('unload') and load one build"
        else
            say "it was built for kernel $built_for, this is $(uname -r): run 'make modules' for this kernel"
        fi
        ;;
    *"Key was rejected"* | *"Required key"*)
        say "this kernel takes signed modules only (Secure Boot or lockdown): see 'preflight' and doc/building.md, section Secure Boot"
        ;;
    *"Operation not permitted"*)
        say "the kernel forbids it: not root, or modules are disabled (/proc/sys/kernel/modules_disabled), or lockdown; see 'preflight'"
        ;;
    *"Unknown symbol"*)
        say "it was built against other modules than the loaded ones: unload all ('unload') and load one build"
        ;;
    *"Invalid parameters"* | *"Invalid argument"*)
        say "a parameter is not right: see 'modinfo -p $2' and /etc/virgo/$1.conf"
        ;;
    *"Cannot allocate memory"*)
        say "there is not enough memory: a smaller buffer may do, see 'modinfo -p $2'"
        ;;
    esac
    kernel_said "$1" >&2
}
