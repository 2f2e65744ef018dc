# make demo              a guided tour on real files, under a minute
# make test              the tests, on all cores, under five minutes on two
# make test-slow         the longer experiments
# make test-busy         the tests twenty times in a row beside eight busy loops: ROUNDS=20 LOOPS=8
# make test-interrupted  the tests, interrupted halfway; no process may be left
# make torture           fault injection at every point: SECONDS=3600 SEED=1 ONLY="R1 R4"
# make bench             measurements against the baselines: BENCH="--only W3" selects a part
# make bench-peers       the same work with the alternatives, each in an environment of its own
# make structure         files, functions and stack depth of the main paths
# make docs              the pages as a site, in build/docs/site
# make check             lint, types and import contract
#
# Every goal runs in the environment .venv, created by PYTHON (3.11 or newer) and recreated when pyproject.toml or PYTHON
# changes.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin

# The stamps contain the interpreter's version, so that `make test PYTHON=python3.12` recreates the environment.
INTERPRETER := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) and print("%d.%d.%d" % v[:3])' 2>/dev/null)
PACKAGE := $(VENV)/package-$(INTERPRETER)
DEVELOP := $(VENV)/develop-$(INTERPRETER)
DOCS := $(VENV)/docs-$(INTERPRETER)
TORTURE := $(VENV)/torture-$(INTERPRETER)

# 1.5 times the cores that this process may use (in a container, possibly fewer than the machine has): tests wait for disks
# and other interpreters.
WORKERS := $(shell $(PYTHON) -c 'import os; f = getattr(os, "sched_getaffinity", None); print((len(f(0)) if f else os.cpu_count()) * 3 // 2 or 1)' 2>/dev/null)

.DEFAULT_GOAL := test
.PHONY: demo test test-slow test-busy test-interrupted torture bench bench-peers structure docs lint types contract check clean

demo: $(PACKAGE)
	$(BIN)/python examples/stdlib_atlas/run.py

test: $(DEVELOP)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

# Seconds after which a test counts as hanging.
LONGEST ?= 1200

test-slow: $(DEVELOP)
	$(BIN)/python -m pytest -n $(WORKERS) -m slow -o faulthandler_timeout=$(LONGEST)

ROUNDS ?= 20
LOOPS ?= 8

test-busy: $(DEVELOP)
	$(BIN)/python tests/suite/busy.py --rounds $(ROUNDS) --loops $(LOOPS) -- -n $(WORKERS) -m "not slow"

test-interrupted: $(DEVELOP)
	$(BIN)/python tests/suite/interrupted.py --seed $(SEED) -- -n $(WORKERS) -m "not slow"

SEED ?= 0

torture: $(TORTURE)
	$(BIN)/python -W ignore tests/faults/torture.py --seed $(SEED) --only "$(ONLY)" $(if $(SECONDS),--seconds $(SECONDS))

bench: $(DEVELOP)
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
	$(if $(INTERPRETER),,$(error $(PYTHON) is not Python 3.11 or newer. Select another interpreter: `make $(MAKECMDGOALS) PYTHON=python3.12`))
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEVELOP): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[develop]'
	touch $@

$(DOCS): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# Atheris is not available for every interpreter and system. Without it, fuzzing runs without coverage guidance.
$(TORTURE): $(DEVELOP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torture]' || \
		echo "atheris cannot be installed here: fuzzing runs without coverage guidance" >&2
	touch $@
