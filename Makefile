# make demo       a guided tour on real files, under a minute
# make test       the tests, on all cores, under five minutes on two
# make test-slow  the longer experiments
# make test-busy  the tests twenty times in a row beside eight busy loops: ROUNDS=20 LOOPS=8
# make test-interrupted  the tests, interrupted in their middle: no process may be left
# make torture    faults at every point: SECONDS=3600 SEED=1
# make bench      how fast the work is, next to the least that it can cost, under five minutes; BENCH="--only W3" for a part
# make bench-peers  the same work with what people use instead, each in an environment of its own
# make structure  how far a reader of the source has to jump
# make docs       the pages as a site, in build/docs/site
# make check      what a change must pass beside the tests: lint, types, contract
#
# All of it runs in an environment of its own, .venv, which is made by PYTHON (3.11 or newer) and made again whenever
# pyproject.toml or PYTHON changes.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin

# The stamps carry the interpreter's version, so that `make test PYTHON=python3.12` gets an environment of its own making.
INTERPRETER := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) and print("%d.%d.%d" % v[:3])' 2>/dev/null)
PACKAGE := $(VENV)/package-$(INTERPRETER)
DEVELOP := $(VENV)/develop-$(INTERPRETER)
DOCS := $(VENV)/docs-$(INTERPRETER)
TORTURE := $(VENV)/torture-$(INTERPRETER)

# By the cores that this process may use, which in a container can be fewer than the machine has.
# Tests wait for disks and other interpreters, so there are more of them at work than cores.
WORKERS := $(shell $(PYTHON) -c 'import os; f = getattr(os, "sched_getaffinity", None); print((len(f(0)) if f else os.cpu_count()) * 3 // 2 or 1)' 2>/dev/null)

.DEFAULT_GOAL := test
.PHONY: demo test test-slow test-busy test-interrupted torture bench bench-peers structure docs lint types contract check clean

demo: $(PACKAGE)
	$(BIN)/python examples/stdlib_atlas/run.py

test: $(DEVELOP)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: $(DEVELOP)
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

ROUNDS ?= 20
LOOPS ?= 8

test-busy: $(DEVELOP)
	$(BIN)/python tests/suite/busy.py --rounds $(ROUNDS) --loops $(LOOPS) -- -n $(WORKERS) -m "not slow"

test-interrupted: $(DEVELOP)
	$(BIN)/python tests/suite/interrupted.py --seed $(SEED) -- -n $(WORKERS) -m "not slow"

SEED ?= 0

torture: $(TORTURE)
	$(BIN)/python -W ignore tests/faults/torture.py --seed $(SEED) --only "$(ONLY)" $(if $(SECONDS),--seconds $(SECONDS))

bench: $(PACKAGE)
	$(BIN)/python -m benchmarks $(BENCH)

bench-peers: $(PACKAGE)
	$(BIN)/python -m benchmarks.peers $(BENCH)

structure: $(PACKAGE)
	$(BIN)/python -m benchmarks.structure

docs: $(DOCS)
	$(BIN)/python docs/make_site.py

lint: $(DEVELOP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOP)
	$(BIN)/mypy

contract: $(DEVELOP)
	$(BIN)/lint-imports

check: lint types contract

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(PACKAGE): pyproject.toml
	$(if $(INTERPRETER),,$(error $(PYTHON) is not Python 3.11 or newer: name one that is, as in `make $(MAKECMDGOALS) PYTHON=python3.12`))
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEVELOP): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[develop]'
	touch $@

$(DOCS): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# Atheris is not built for every interpreter and system. Without it the same cases are tried, unguided by coverage.
$(TORTURE): $(DEVELOP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torture]' || \
		echo "atheris cannot be installed here: fuzzing is not guided by coverage" >&2
	touch $@
