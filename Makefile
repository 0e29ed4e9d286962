# Makefile - the short way to everything; the long way is in CMakeLists.txt and scripts/.
# SPDX-License-Identifier: Apache-2.0 OR MIT

PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)

export JOBS

BUILD = build/release

.PHONY: build demo test bench soak install coverage port-aarch64 port-musl port-32 format clean help
.DEFAULT_GOAL := build

build: ## the library and the command, into build/release
	@scripts/deps.sh demo
	@scripts/build.sh release cove_shared cove_static cove_command

demo: ## what Cove does, in ten seconds: a large file goes over, a process is killed on the way
	@scripts/deps.sh demo
	@scripts/build.sh release cove_command
	@$(BUILD)/cove demo

test: ## every test that fits into 15 minutes on 2 cores
	@scripts/deps.sh test
	@scripts/test.sh

bench: ## speed, beside the limit of this machine and beside other ways
	@scripts/deps.sh bench
	@scripts/bench.sh

soak: ## the long forms of the tests: hours
	@scripts/deps.sh soak
	@scripts/soak.sh

install: build ## headers, libraries, command, manual: PREFIX=/usr/local DESTDIR=
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

coverage: ## which lines the unit tests reach: build/coverage/coverage.html
	@scripts/deps.sh coverage
	@scripts/coverage.sh

port-aarch64: ## cross build for 64-bit ARM; the layout there, and the tests that can run under an emulator
	@scripts/ports.sh aarch64

port-musl: ## build with musl in place of glibc, and all tests with it
	@scripts/ports.sh musl

port-32: ## build 32-bit programs, and all tests with them
	@scripts/ports.sh 32

format: ## lay the sources out by .clang-format
	@scripts/deps.sh format
	@git ls-files -z --cached --others --exclude-standard '*.c' '*.h' | xargs -0 clang-format -i

clean: ## remove build/
	@rm -rf build

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1 \t/p' Makefile | expand -t 22
