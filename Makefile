# Set-up and every check of the project. `make setup` is implied by all targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup
PUBLISH := $(VENV)/.publish
FOR ?=
PYTEST := $(BIN)/python -m pytest
# Tests wait for half of their time: more of them at once than there are processors.
WORKERS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))

.PHONY: setup compiled demo test lint e2e e2e-newest bench docs pictures house release clean lock

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml hatch_build.py $(wildcard proxy/http/native/*.c proxy/http/native/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meshpy needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The hot modules as C (proxy/compiled.py), a minute of CPU. Tests run what is there and fresh: `make compiled test`.
compiled: setup
	$(BIN)/python hatch_build.py

demo: setup
	$(BIN)/meshpy demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint
	tests/twice $(PYTEST) tests --ignore=tests/e2e --ignore=tests/bench -n $(WORKERS) --dist worksteal

e2e: setup
	tests/twice tests/e2e/run $(BIN) --both

# The newest engine that Debian has, as far as it can be had: its facts, and one application within the mesh.
e2e-newest: setup
	MESHPY_E2E_ENGINE=newest tests/twice tests/e2e/run $(BIN) -rP -k 'test_engine or test_newest'

bench: compiled
	tests/bench/run $(BIN)

lock:
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 pyproject.toml -o requirements/runtime.txt
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 --extra dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --python-version 3.11 --extra publish -c requirements/dev.txt pyproject.toml -o requirements/publish.txt

# The pictures of README and docs, taken from a real demo; needs Debian's chromium and chromium-driver.
pictures: setup
	$(BIN)/python -m tests.pictures

house: setup
	$(BIN)/python tests/house.py

$(PUBLISH): requirements/publish.txt $(STAMP)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/publish.txt
	@touch $@

docs: $(PUBLISH)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Of one commit always the same bytes, but for what a compiler on another machine makes of the C. Two wheels: one for
# every Python from 3.11 on, one for this Python with the hot modules compiled, which pip prefers where it fits.
release: export SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null)
release: $(PUBLISH)
	rm -rf dist
	$(BIN)/hatchling build -d dist
	MESHPY_COMPILE=1 $(BIN)/hatchling build -t wheel -d dist
	$(BIN)/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --output-reproducible -o dist/swarm-meshpy.cdx.json
	cd dist && sha256sum -- * > SHA256SUMS

clean:
	rm -rf proxy/http/native/*.so proxy/hot-*.so $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
