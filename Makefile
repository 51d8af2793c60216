# mbtrain: `make` lists the targets. The first use sets up .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help train test quick check format bench bench-check keys clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.train: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mbtrain needs Python 3.11 or later; make PYTHON=python3.12 train picks one"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mbtrain needs Python 3.11 or later; make PYTHON=python3.12 test picks one"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.train

train: $(VENV)/.train  ## set up, then train: make train ARGS="dataset=fashion_mnist model=cnn batch.size=256"
	@$(BIN)/mbtrain $(ARGS)

check: $(VENV)/.dev  ## lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

test: check  ## lint, types and all tests (what CI runs)
	$(BIN)/python -m pytest tests/plan tests/core tests/test_doctests.py --cov=mbtrain.plan --cov=mbtrain.core --cov-report=term --cov-fail-under=100
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/plan --ignore=tests/core --ignore=tests/test_doctests.py $(ARGS)

quick: $(VENV)/.dev  ## the tests that take under two minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

format: $(VENV)/.dev  ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## time mbtrain against the loop one writes by hand
	$(BIN)/python scripts/benchmark.py $(ARGS)

bench-check: $(VENV)/.dev  ## has anything become slower than benchmarks/results.json says?
	$(BIN)/python scripts/benchmark.py --check $(ARGS)

keys: $(VENV)/.dev  ## write docs/keys.md, the reference of keys, from the schema
	$(BIN)/python scripts/keys.py

clean:  ## remove what the tools left (not runs, not data)
	rm -rf .pytest_cache .ruff_cache .hypothesis dist build .coverage
