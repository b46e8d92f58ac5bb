# Thaw: what there is to make. `make demo` and `make test` do everything on a fresh machine.
SHELL := /bin/bash
CONFIGURATION ?= release
BIN := .build/$(CONFIGURATION)
VENV := .venv
CC ?= cc
WARNINGS := -Wall -Wextra -Werror
JAILER := $(wildcard Sources/jailer/*.c) $(wildcard Sources/jailer/*.h) Sources/CJailerProtocol/include/jailer_protocol.h
RESTORER := Sources/restorer/restorer.c Sources/restorer/restorer.ld Sources/CRestoreProgram/include/restore_program.h
DEBIAN := libseccomp-dev libarchive-dev libxxhash-dev libsqlite3-dev libjackson2-databind-java mono-mcs libmono-system-core4.0-cil libmono-system-net-http4.0-cil
JAVA := $(shell find Bootstraps/java -name '*.java')
DOTNET := $(wildcard Bootstraps/dotnet/*.cs)
BOOTSTRAPS := $(BIN)/bootstraps

.PHONY: all deps venv build native bootstraps demo test unit engine acceptance bench lint clean help

all: build

help:
	@echo "make build       thaw, thaw-jailer, thaw-restorer and the bootstraps in $(BIN)"
	@echo "make demo        a LangChain agent: cold start against restore, with plain boto3"
	@echo "make test        lint, unit tests, engine tests, acceptance tests"
	@echo "make bench       restore, cold start and fork() side by side; tables and JSON"
	@echo "make lint        swift format lint --strict"

# Debian's packages: only what is missing is asked for.
deps:
	@missing=""; for package in $(DEBIAN); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
	@command -v javac >/dev/null || { echo "installing a JDK"; apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jdk-headless >/dev/null; }

# PyPI's: clients and test tools, in an environment of their own.
venv: $(VENV)/.ready
$(VENV)/.ready: Acceptance/requirements.txt
	@echo "making $(VENV) with boto3, the AWS CLI and pytest"
	@python3 -m venv $(VENV) && $(VENV)/bin/pip install --quiet --disable-pip-version-check -r Acceptance/requirements.txt && touch $@

build: deps native bootstraps
	swift build -c $(CONFIGURATION) --product thaw

native: deps $(BIN)/thaw-jailer $(BIN)/thaw-restorer

# What runs functions of languages whose runtime interface client does not come with them.
bootstraps: deps $(BOOTSTRAPS)/java/thaw-java.jar $(BOOTSTRAPS)/dotnet/Thaw.Dotnet.dll $(BOOTSTRAPS)/python/thaw_bootstrap.py

$(BOOTSTRAPS)/python/%.py: Bootstraps/python/%.py | $(BIN)
	@mkdir -p $(@D) && cp $< $@

# stringConcat=inline: joining strings makes no classes at run time, which every clone would make anew.
$(BOOTSTRAPS)/java/thaw-java.jar: $(JAVA) | $(BIN)
	@rm -rf .build/java-classes && mkdir -p .build/java-classes $(@D)
	javac --release 11 -Xlint:all -Werror -XDstringConcat=inline -d .build/java-classes $(JAVA)
	jar --create --file $@ -C .build/java-classes thaw

# Against Mono's facades, whose types .NET's own facades forward to where they are there.
$(BOOTSTRAPS)/dotnet/Thaw.Dotnet.dll: $(DOTNET) Bootstraps/dotnet/Thaw.Dotnet.runtimeconfig.json | $(BIN)
	@mkdir -p $(@D)
	mcs -langversion:7 -warnaserror -warn:4 -optimize+ -out:$@ $(DOTNET)
	@cp Bootstraps/dotnet/Thaw.Dotnet.runtimeconfig.json $(@D)

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
	THAW_BIN=$(abspath $(BIN)) $(VENV)/bin/python Benchmarks/runtimes.py
	$(VENV)/bin/python Benchmarks/limits.py --bin $(BIN)

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Integration Benchmarks

clean:
	rm -rf .build $(VENV)
