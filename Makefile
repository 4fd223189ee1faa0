# Every target does its own set-up; a second run finds it done. `make help` lists them.
SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test lint bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

.venv/.ready: pyproject.toml uv.lock scripts/setup.sh
	@scripts/setup.sh base && touch $@

.venv/.ready-test: .venv/.ready
	@scripts/setup.sh test && touch $@

setup: .venv/.ready  ## the virtual environment, from the lock

setup-test: .venv/.ready-test  ## what the tests need besides (a browser, Java and Maven)

demo: setup  ## watch real calls from three regions on a dashboard (Ctrl-C ends it)
	@exec $(BIN)/sidetone demo $(ARGS)

test: setup-test lint  ## lint, then every test
	@$(BIN)/python -m pytest $(ARGS)

lint: setup  ## ruff, mypy --strict, layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

bench: setup  ## benchmarks of speed, as ratios to a baseline of the same run
	@$(BIN)/python -m bench $(ARGS)

clean:  ## remove the virtual environment and caches
	@rm -rf .venv .venv-uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
