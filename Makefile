# Set-up and every check of the project. `make setup` is implied by all targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
FOR ?=
PYTEST := $(BIN)/python -m pytest

.PHONY: setup demo test lint e2e bench docs house clean lock

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml hatch_build.py $(wildcard proxy/http/native/*.c proxy/http/native/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meshpy needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/meshpy demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	$(PYTEST) tests --ignore=tests/e2e --ignore=tests/bench -n auto --dist worksteal

e2e: setup
	tests/e2e/run $(BIN)

bench: setup
	tests/bench/run $(BIN)

lock:
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 pyproject.toml -o requirements/runtime.txt
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 --extra dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 --extra docs -c requirements/dev.txt pyproject.toml -o requirements/docs.txt

house: setup
	$(BIN)/python tests/house.py

docs: setup
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf proxy/http/native/*.so $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
