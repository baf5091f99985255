# Two commands matter: `make lab` opens the course, `make test` runs everything that CI runs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help lab rehearse test check notebooks bench doctor set-up lock clean

PYTHON ?= python3
TORCH ?= default
NOTEBOOK ?= notebooks/01_training_data.ipynb
BIN := .venv/bin
# JupyterLab refuses to run as root unless told; containers run as root
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

set-up:
	@command -v $(PYTHON) >/dev/null || { echo "set-up stopped: no $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name one: make lab PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) tools/set_up.py --torch $(TORCH)

lab: set-up ## set up when needed, then open JupyterLab at the first notebook (TORCH=cpu: the smaller build)
	@$(BIN)/jupyter lab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/$(NOTEBOOK) $(AS_ROOT) $(LAB_ARGS)

rehearse: set-up ## set up when needed, then ask what is due today (REHEARSE_ARGS="mock --lang zh")
	@$(BIN)/rehearse $(REHEARSE_ARGS) || [ $$? -eq 130 ] # stopped by the learner is no error

check: set-up ## the fast checks: style, types, spelling, links, notebooks against their sources
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell
	@$(BIN)/python tools/check_links.py
	@$(BIN)/python tools/build_notebooks.py --check

test: check ## everything that CI runs
	@$(BIN)/python -m pytest -q --nbval --nbval-sanitize-with tests/nbval_sanitise.cfg -n 2 --dist loadfile notebooks solutions
	@CHROMIUM="$${CHROMIUM:-$$($(BIN)/python tools/ensure_chromium.py)}" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

notebooks: set-up ## build both versions of every notebook from solutions/*.py and execute them
	@$(BIN)/python tools/build_notebooks.py --execute

bench: set-up ## run every paired benchmark on an idle machine and save the results
	@$(BIN)/python -m benchmarks all --save

doctor: set-up ## say in words what is missing or unusual on this machine
	@$(BIN)/python -m helpers.doctor

lock: set-up ## compile requirements.lock again from pyproject.toml (maintainers)
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --all-extras \
		pyproject.toml --output-file requirements.lock

clean: ## remove the environment and all caches
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
