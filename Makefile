# consul-edge: set-up, demo, tests, checks and benchmarks. `make` alone lists the targets.
#
#   PYTHON=...   the Python to make .venv with (3.11 or newer)
#   ARGS=...     further arguments for the program that a target runs

PYTHON ?=
ARGS ?=
BIN := .venv/bin

export PYTHON
# Tests and benchmarks find their programs here too: Debian keeps nginx where an ordinary user's PATH does not look.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test scenario check bench soak fuzz micro clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv, so that .venv/bin/consul-edge is the program
	@tools/setup-venv

setup-dev: ## the same with what tests, checks and benchmarks need
	@tools/setup-venv dev

demo: setup ## run everything on loopback with sample services; Ctrl-C ends it
	@exec tools/foreground $(BIN)/consul-edge demo $(ARGS)

test: setup-dev ## run all tests: make test ARGS='-k dns -x'
	@tools/get-programs test
	@exec $(BIN)/python -m pytest $(ARGS)

scenario: setup-dev ## three whole hosts on this machine, every part and faults under load, as root: ARGS='--keep'
	@tools/get-programs test
	@exec tools/foreground $(BIN)/python -m tests.scenario $(ARGS)

check: setup-dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup-dev ## consul-edge beside nginx, HAProxy, dnsmasq, unbound and Consul, into benchmarks/results
	@tools/get-programs bench
	@exec $(BIN)/python -m benchmarks.macro $(ARGS)

soak: setup-dev ## minutes of load, changes, upgrades and killed workers: make soak ARGS='--minutes 5'
	@tools/get-programs test
	@exec $(BIN)/python -m benchmarks.soak $(ARGS)

fuzz: setup-dev ## a million hostile DNS packets: make fuzz ARGS='--seed 7'
	@exec $(BIN)/python -m benchmarks.fuzz $(ARGS)

micro: setup-dev ## time the hot functions alone
	@exec $(BIN)/python -m pytest benchmarks/micro --benchmark-only $(ARGS)

clean: ## remove .venv and everything that was generated, results of benchmarks apart
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
