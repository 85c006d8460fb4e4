# The two commands of the README are `make demo` and `make test`; each sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
SECONDS_FLAG = $(if $(filter command line environment,$(origin SECONDS)),--seconds $(SECONDS))
TORCH_BACKEND ?=# cpu: the smaller CPU build, from PyTorch's own index
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))

WORKERS ?= 3# process tests wait much: three keep two cores busy
SIDE_BY_SIDE = -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: demo test quick check docs chaos simulate fuzz bench clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: pyproject.toml
	@echo "setting up $(VENV) (a minute or two, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5,<1'
	@$(UV) --editable '.[console]'
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	@$(UV) --editable '.[test]'
	@touch $@

demo: $(VENV)/.run ## set up, then forecast generated traffic on the embedded log (SECONDS=30 to bound it)
	@$(BIN)/streamer demo $(SECONDS_FLAG)

check: $(VENV)/.test ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

test: $(VENV)/.test check ## set up, then everything that must hold, a real Kafka broker included
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --durations=20 $(ARGS)

quick: $(VENV)/.test ## what a change breaks most often, in a minute or two: no broker, no long test, three worlds
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -q -m 'not slow' --no-broker --seeds 3 $(ARGS)

docs: $(VENV)/.run ## build the documentation into build/site
	@$(UV) --editable '.[docs]'
	@$(BIN)/mkdocs build --strict

chaos: $(VENV)/.test ## forecasters killed, put to sleep and replaced under load (ROUNDS=30; ARGS='--log sqlite --partitions 12 --seed 2')
	@$(BIN)/python -m tests.faults.chaos --rounds $(or $(ROUNDS),30) $(ARGS)

simulate: $(VENV)/.test ## worlds in one thread, each from a seed (SEEDS=2000)
	@$(BIN)/python -m pytest tests/simulation -q --seeds $(or $(SEEDS),2000) $(ARGS)

fuzz: $(VENV)/.test ## any bytes at all, guided by coverage, for so long each (SECONDS=60; ARGS='readings turns page state weights')
	@$(UV) --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(SECONDS_FLAG) $(ARGS)

bench: $(VENV)/.test ## what a reading costs, as ratios (ARGS='core decoders kafka sqlite state beside service console memory growth million' picks; BENCH_JSON=FILE)
	@$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove what set-up and tests left behind
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
