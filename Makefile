# SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0
#
# The people's entry: "make help". What the kernel's build reads is Kbuild.

KERNEL ?= stock
PREFIX ?= /usr/local
DESTDIR ?=
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/virgo

# Each recipe is one script that locks what it changes; nothing is gained by running two at once.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
export W V

.PHONY: all
all: modules user

.PHONY: help
help:
	@echo 'VIRGO: Rust kernel modules for stock Debian kernels.'
	@echo
	@echo '  make                 the modules for KERNEL, and the virgo command'
	@echo '  make run             the tour: boot a stock kernel in QEMU, load the modules, use them'
	@echo '  make shell           a console in the same guest'
	@echo '  make test            every test, on the stock kernel, and some on the next one; ends with "N passed, N failed"'
	@echo '  make test-rest       what make test leaves out: the other guest suites on the next kernel'
	@echo '  make test-next       the guest suites on the next kernel, all of them'
	@echo '  make check           no guest, seconds: rustfmt, clippy, unit tests, shellcheck, rules'
	@echo '  make test-debug      the tests on a debug kernel (built once, 20 to 50 minutes)'
	@echo '  make test-kernels    the guest suites on Debian testing'"'"'s kernel (another compiler)'
	@echo '  make fuzz            the parsers, a minute each, with libFuzzer'
	@echo '  make bench-profiler  what a sample costs, beside a /proc poll and pidstat'
	@echo '  make bench-cpupool   what a call and a program cost, beside a null server and a local spawn'
	@echo '  make bench-map       a job over three guests, beside GNU parallel over ssh'
	@echo '  make bench-mempool   what a request to the memory pool costs, beside memcached'
	@echo '  make bench-cloudfs   what file operations cost, beside diod and the NFS server'
	@echo '  make prove-cloudfs   git, sqlite, fio, rsync and others on a mount, beside diod'
	@echo '  make bench-eventnet  what telling of an event costs, beside the trace buffer and the log'
	@echo '  make bench-analytics what a setting costs, beside sysctl, inotify and etcd'
	@echo '  make bench-trace     what recording a page fault costs, beside perf and bpftrace'
	@echo '  make bench-queue     what a request through the queue costs, beside beanstalkd'
	@echo
	@echo '  make modules         the modules alone, in build/RELEASE/ko/'
	@echo '  make user            the virgo command alone, target/release/virgo'
	@echo '  make modules_install into $$INSTALL_MOD_PATH/lib/modules/RELEASE/updates/'
	@echo '  make dkms            give the modules to DKMS, for each kernel that is installed later'
	@echo '  make install         command, completions, man pages, scripts, header, under $$DESTDIR$$PREFIX'
	@echo '  make setup           fetch and make all that the others need, now'
	@echo '  make clean           remove build/, target/ and out/'
	@echo '  make distclean       and the cache, $(CACHE)'
	@echo
	@echo '  KERNEL=stock|next|testing|debug|RELEASE   the kernel (now: $(KERNEL))'
	@echo '  KDIR=/lib/modules/`uname -r`/build  build on this machine for its own kernel;'
	@echo '                                    insmod-scripts/preflight tells whether that can work'
	@echo '  V=1 W=1                           more words; more warnings'

.PHONY: setup
setup:
	@scripts/setup

.PHONY: modules
modules:
ifdef KDIR
	@KDIR='$(KDIR)' scripts/build-modules
else
	@scripts/build-modules '$(KERNEL)'
endif

.PHONY: user
user:
	@scripts/setup --quiet --root
	@scripts/build-user

.PHONY: run
run:
	@KERNEL='$(KERNEL)' scripts/run-demo

.PHONY: shell
shell:
	@KERNEL='$(KERNEL)' tests/vm shell

.PHONY: test
test:
	@tests/run

.PHONY: test-rest
test-rest:
	@tests/run --rest

.PHONY: test-next
test-next:
	@tests/run --kernel next --guests

.PHONY: test-debug
test-debug:
	@tests/run --debug

.PHONY: fuzz
fuzz:
	@scripts/setup --quiet --root
	@scripts/fuzz

.PHONY: test-kernels
test-kernels:
	@tests/run --kernel testing --guests

.PHONY: check lint
check lint:
	@scripts/setup --quiet --root
	@scripts/check

.PHONY: bench-profiler
bench-profiler:
	@KERNEL='$(KERNEL)' scripts/bench-profiler

.PHONY: bench-mempool
bench-mempool:
	@KERNEL='$(KERNEL)' scripts/bench-mempool

.PHONY: bench-map
bench-map:
	@KERNEL='$(KERNEL)' scripts/bench-map

.PHONY: bench-cpupool
bench-cpupool:
	@KERNEL='$(KERNEL)' scripts/bench-cpupool

.PHONY: bench-cloudfs
bench-cloudfs:
	@KERNEL='$(KERNEL)' scripts/bench-cloudfs

.PHONY: prove-cloudfs
prove-cloudfs:
	@KERNEL='$(KERNEL)' scripts/prove-cloudfs

.PHONY: bench-eventnet
bench-eventnet:
	@KERNEL='$(KERNEL)' scripts/bench-eventnet

.PHONY: bench-analytics
bench-analytics:
	@KERNEL='$(KERNEL)' scripts/bench-analytics

.PHONY: bench-trace
bench-trace:
	@KERNEL='$(KERNEL)' scripts/bench-trace

.PHONY: bench-queue
bench-queue:
	@KERNEL='$(KERNEL)' scripts/bench-queue

.PHONY: modules_install
modules_install:
ifdef KDIR
	@KDIR='$(KDIR)' scripts/install-modules
else
	@scripts/install-modules $(if $(filter-out undefined default file,$(origin KERNEL)),'$(KERNEL)')
endif

.PHONY: dkms
dkms:
	@KERNEL='$(if $(filter-out undefined default file,$(origin KERNEL)),$(KERNEL))' scripts/install-dkms

.PHONY: install
install:
	@test -e target/release/virgo || { echo 'make install: run make user first' >&2; exit 1; }
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/virgo' '$(DESTDIR)$(PREFIX)/include/linux'
	install -m 0755 target/release/virgo '$(DESTDIR)$(PREFIX)/bin/virgo'
	ln -sf virgo '$(DESTDIR)$(PREFIX)/bin/tracepgfault'
	cp insmod-scripts/* '$(DESTDIR)$(PREFIX)/lib/virgo/'
	install -m 0644 include/uapi/linux/virgo.h '$(DESTDIR)$(PREFIX)/include/linux/virgo.h'
	@for page in man/*.[1-9]; do \
		[ -e "$$page" ] || continue; \
		section=$${page##*.}; \
		install -D -m 0644 "$$page" '$(DESTDIR)$(PREFIX)'"/share/man/man$$section/$${page##*/}"; \
	done
	install -D -m 0644 target/completions/virgo.bash '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/virgo'
	install -D -m 0644 target/completions/_virgo '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_virgo'
	install -D -m 0644 target/completions/virgo.fish '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/virgo.fish'

.PHONY: clean
clean:
	rm -rf build target out

.PHONY: distclean
distclean: clean
	rm -rf --one-file-system '$(CACHE)'
