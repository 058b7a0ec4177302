# Everything here runs on a fresh Debian 12 or 13 machine with a Rust toolchain, as root (the lab is
# made of namespaces), and installs what it lacks. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo

SHELL_FILES = $(shell git ls-files '*.sh' .ci/run)

# Of `make install`, as packagers know them.
DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc

.PHONY: help demo test bench cross nix-eval check deny install release

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

# The lab's hosts run the `roost` that was built beside the program that runs the lab.

demo: release root-trixie ## a workstation and two boards on one machine, and a build across them
	@$(CARGO) run --quiet --release -p roost-lab --bin demo

test: root-trixie root-sid ## every test: units, properties, and the lab
	$(CARGO) build --workspace
	$(CARGO) test --workspace --no-fail-fast

bench: release root-trixie ## stock Nix and roost side by side (QUICK=1: one run of each)
	@$(CARGO) run --quiet --release -p roost-lab --bin bench

cross: ## the program for the boards' architectures, compiled with Debian 13's Rust
	@for arch in aarch64 riscv64; do stat --format '%s bytes  %n' "$$(qemu-test/cross/build.sh $$arch)"; done

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
