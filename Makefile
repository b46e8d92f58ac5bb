# Thaw: what there is to make. `make demo` and `make test` do everything on a fresh machine.
SHELL := /bin/bash
CONFIGURATION ?= release
BIN := .build/$(CONFIGURATION)
VENV := .venv
CC ?= cc
WARNINGS := -Wall -Wextra -Werror
JAILER := $(wildcard Sources/jailer/*.c) $(wildcard Sources/jailer/*.h) Sources/CJailerProtocol/include/jailer_protocol.h
RESTORER := Sources/restorer/restorer.c Sources/restorer/restorer.ld Sources/CRestoreProgram/include/restore_program.h
DEBIAN := libseccomp-dev libarchive-dev libsqlite3-dev

.PHONY: all deps venv build native demo test unit engine acceptance bench lint clean help

all: build

help:
	@echo "make build       thaw, thaw-jailer and thaw-restorer in $(BIN)"
	@echo "make demo        a LangChain agent: cold start against restore, with plain boto3"
	@echo "make test        lint, unit tests, engine tests, acceptance tests"
	@echo "make bench       restore, cold start and fork() side by side; a table and JSON"
	@echo "make lint        swift format lint --strict"

# Debian's packages: only what is missing is asked for.
deps:
	@missing=""; for package in $(DEBIAN); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; fi

# PyPI's: clients and test tools, in an environment of their own.
venv: $(VENV)/.ready
$(VENV)/.ready: Acceptance/requirements.txt
	@echo "making $(VENV) with boto3, the AWS CLI and pytest"
	@python3 -m venv $(VENV) && $(VENV)/bin/pip install --quiet --disable-pip-version-check -r Acceptance/requirements.txt && touch $@

build: deps native
	swift build -c $(CONFIGURATION) --product thaw

native: deps $(BIN)/thaw-jailer $(BIN)/thaw-restorer

$(BIN):
	@mkdir -p .build/x86_64-unknown-linux-gnu/$(CONFIGURATION) && ln -sfn x86_64-unknown-linux-gnu/$(CONFIGURATION) $(BIN)

$(BIN)/thaw-jailer: $(JAILER) | $(BIN)
	$(CC) -O2 $(WARNINGS) -Wno-format-truncation -ISources/CJailerProtocol/include -o $@ Sources/jailer/*.c -lseccomp

# Freestanding: no libc, no vector registers, linked below any executable.
$(BIN)/thaw-restorer: $(RESTORER) | $(BIN)
	$(CC) -O2 $(WARNINGS) -ffreestanding -nostdlib -static -fno-pic -no-pie -mcmodel=small -fno-stack-protector \
	  -fcf-protection=none -mgeneral-regs-only -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
	  -ISources/CRestoreProgram/include -Wl,-T,Sources/restorer/restorer.ld -Wl,--build-id=none -Wl,-z,noexecstack \
	  -Wl,--no-warn-rwx-segments -o $@ Sources/restorer/restorer.c

demo: build venv
	$(VENV)/bin/python Examples/demo.py --bin $(BIN)

test: lint build venv unit acceptance

unit: build
	THAW_BIN=$(BIN) swift test

acceptance: build venv
	THAW_BIN=$(abspath $(BIN)) $(VENV)/bin/python -m pytest -q Acceptance

bench: build venv
	$(VENV)/bin/python Benchmarks/bench.py --bin $(BIN)

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Integration

clean:
	rm -rf .build $(VENV)
