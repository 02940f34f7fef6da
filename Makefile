# Everything a developer runs. The virtual environment is made when it is first needed.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint typecheck clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## Train on synthetic speakers to 90 %, export, evaluate (a few minutes)
	@echo "==> Demonstration: train, inspect, export and evaluate, in ./demo"
	$(BIN)/python -m sparsify.benchmarks.demo --output demo

# As many processes as there are cores for this one, at most 8: each holds torch in memory.
test: .venv/installed-test ## Run the test suite
	@echo "==> Tests"
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# uv, because pip cannot choose the lowest versions. Another environment of 5 GB.
test-oldest: ## Run the suite with the oldest dependencies that are allowed
	@echo "==> Tests, with the oldest dependencies"
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python \
		--resolution lowest-direct --editable ".[test]"
	.venv-oldest/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/installed-dev ## Check style and formatting
	@echo "==> Style and formatting"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The folders cli, exporters and benchmarks become packages only when installed, so the installed
# package is what is checked. A stale build/ would end up in it.
typecheck: .venv/installed-dev ## Type-check the installed package
	@echo "==> Types"
	rm -rf .typecheck build
	$(BIN)/pip install --quiet --no-deps --target .typecheck .
	cd .typecheck && MYPYPATH=. ../$(BIN)/mypy --config-file ../pyproject.toml \
		--cache-dir ../.mypy_cache -p sparsify

clean: ## Remove what these targets made, the virtual environments included
	@echo "==> Removing build products, caches and the virtual environment"
	rm -rf .venv .venv-oldest .typecheck build dist demo *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	@echo "==> Virtual environment"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# Stamps: each remembers that an installation with some extras is as new as pyproject.toml.
.venv/installed: EXTRAS :=
.venv/installed-test: EXTRAS := [test]
.venv/installed-dev: EXTRAS := [dev]
.venv/installed .venv/installed-test .venv/installed-dev: pyproject.toml | .venv/pyvenv.cfg
	@echo "==> Installing sparsify$(EXTRAS) into .venv"
	$(BIN)/pip install --quiet --editable ".$(EXTRAS)"
	touch $@
