# Everything here runs on a fresh Debian 12 or 13 machine with a Rust toolchain, as root (the lab is
# made of namespaces), and installs what it lacks. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo

SHELL_FILES = $(shell git ls-files '*.sh' .ci/run qemu-test/guest/init 'qemu-test/guest/root/usr/lib/guest/*booted-system' \
  '*/switch-to-configuration')

# Of `make install`, as packagers know them.
DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc

# Of `make qemu`: which boards, and further options of `roost-qemu test`.
ARCH ?= aarch64 riscv64
QEMU_OPTIONS ?=

.PHONY: help demo test bench simulate cross qemu qemu-boots nix-eval check deny install release

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

# The lab's hosts run the `roost` that was built beside the program that runs the lab.

demo: release root-trixie ## a workstation and two boards on one machine, and a build across them
	@$(CARGO) run --quiet --release -p roost-lab --bin demo

test: root-trixie root-sid ## every test: units, properties, the lab, and emulated boards
	$(CARGO) build --workspace
	@# What is compiled for the emulated boards takes minutes of the CPUs. The tests wait a lot: it gets what they leave.
	@setsid chrt --idle 0 qemu-test/cross/build.sh aarch64 riscv64 >target/cross.log 2>&1 & beside=$$!; \
	  trap 'kill -- -$$beside 2>/dev/null || true' EXIT; \
	  $(CARGO) test --workspace --no-fail-fast; \
	  wait $$beside || { cat target/cross.log; exit 1; }
	@$(MAKE) --no-print-directory qemu

bench: release root-trixie ## stock Nix and roost side by side (QUICK=1: one run of each, ONLY=graph,local: some parts)
	@$(CARGO) run --quiet --release -p roost-lab --bin bench

simulate: ## placement in virtual time on the graphs of real packages, beside a model of stock Nix
	@$(CARGO) run --quiet --profile bench -p roost --example simulate
	@$(CARGO) bench --quiet -p roost --bench place

cross: ## the program for the boards' architectures, compiled with Debian 13's Rust
	@qemu-test/cross/build.sh aarch64 riscv64 | xargs stat --format '%s bytes  %n'

qemu: root-trixie ## boards that QEMU emulates, beside a workstation on one LAN: ARCH=riscv64 for one kind
	@$(CARGO) build --quiet -p roost -p roost-qemu
	@$(CARGO) run --quiet -p roost-qemu -- test $(ARCH:%=--arch %) $(QEMU_OPTIONS)

qemu-boots: ## the same boards, ten times from flashing to enrolled
	@$(MAKE) --no-print-directory qemu QEMU_OPTIONS='--only enrol --repeat 10 $(QEMU_OPTIONS)'

nix-eval: ## evaluate the outputs of flake.nix: NIXPKGS=path [NIXOS_HARDWARE=path] [ONLY=prefix] [JSON=1]
	@$(CARGO) run --quiet -p roost-lab --bin nix-eval -- --nixpkgs="$(NIXPKGS)" \
		--nixos-hardware="$(NIXOS_HARDWARE)" --only="$(ONLY)" --json="$(JSON)"

check: ## format, lints, shell scripts, Nix files, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/need.sh shellcheck
	shellcheck $(SHELL_FILES)
	$(CARGO) test --quiet -p roost-lab --test nix_files
	scripts/need-crate.sh cargo-deny
	$(CARGO) deny check bans licenses sources

deny: ## check, and the advisories, which are fetched from GitHub
	scripts/need-crate.sh cargo-deny
	$(CARGO) deny check

install: release ## the program and its files: DESTDIR= PREFIX=/usr SYSCONFDIR=/etc
	appliance/share/install.sh --program target/release/roost \
	  --destdir "$(DESTDIR)" --prefix "$(PREFIX)" --sysconfdir "$(SYSCONFDIR)"

release:
	@$(CARGO) build --release -p roost

root-%:
	@tests/root/build.sh $* >/dev/null
