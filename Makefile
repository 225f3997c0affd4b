# Needs make and Python 3.11 or later; everything else comes from the lock files into .venv.
# A second `make demo` starts at once: the stamps in .venv say what is installed already.

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE := sidecar control_plane loadtests tests docs conftest.py

# The first Python on PATH that is new enough and can make a virtual environment. PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)

.PHONY: help demo up test lint format bench load logins webhooks docs lock clean
.DEFAULT_GOAL := help

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## The guided tour: real proxies, a login, a revocation, on this machine only (ARGS="--help" for its options)
	@$(BIN)/catalyst demo $(ARGS)

up: $(VENV)/.run ## Database, control plane, sidecar and worker on this machine, until Ctrl-C
	@$(BIN)/catalyst up $(ARGS)

test: $(VENV)/.dev ## Every test; ARGS="tests/unit -k canonical" for some
	$(PYTEST) -n 2 -m "not alone" $(or $(ARGS),tests)
	$(PYTEST) -m alone $(or $(ARGS),tests) || test $$? -eq 5

lint: $(VENV)/.dev ## Style, types, the laws of the architecture, docs that match the code
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev ## Lay the code out as `make lint` wants it
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.dev ## Measure on this machine, write docs/benchmarks/latest.md (wants wrk and nginx)
	$(BIN)/python -m loadtests.bench $(ARGS)

load: $(VENV)/.dev ## 200 clients changing things for a minute: errors, deadlocks, lost updates, times beside a bare INSERT
	$(BIN)/python -m loadtests.changes $(ARGS)

logins: $(VENV)/.dev ## 10,000 logins in a burst, a provider beside them: errors, times, and whether checks notice (ARGS=--short: 200)
	$(BIN)/python -m loadtests.logins $(ARGS)

webhooks: $(VENV)/.dev ## 100,000 events to 50 endpoints, slow, failing and hanging ones among them, while a worker is killed (ARGS=--short)
	$(BIN)/python -m loadtests.webhooks $(ARGS)

docs: $(VENV)/.dev ## Write docs/reference/ anew from the code
	$(BIN)/python docs/generate.py

lock: $(VENV)/.dev ## Resolve the dependencies anew (ARGS=--upgrade: take the newest)
	echo 'setuptools>=77' > $(VENV)/build.in
	$(BIN)/uv pip compile $(LOCK) $(ARGS) --extra demo -o requirements.lock pyproject.toml $(VENV)/build.in
	$(BIN)/uv pip compile $(LOCK) $(ARGS) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml $(VENV)/build.in
	$(BIN)/uv pip compile $(LOCK) -c requirements.lock -o requirements-build.lock $(VENV)/build.in
	$(BIN)/uv pip compile $(LOCK) -c requirements.lock -o requirements-sidecar.lock pyproject.toml
	$(BIN)/uv pip compile $(LOCK) -c requirements.lock --extra control-plane -o requirements-control-plane.lock pyproject.toml

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock'

clean: ## Remove what make made (.catalyst, where `catalyst up` keeps its data, stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what is installed ------------------------------------------------------------------------------------------------------------

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv found on PATH." \
		"Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements.lock pyproject.toml
	@echo "Installing what the lock names; the first time takes a minute"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@
