# make demo    the whole line on this machine, from nothing but Python and make
# make test    set up and pass everything: lint, types, floors, tests
# make bench   measure everything that has a goal
# make soak    an hour of service with faults sprinkled in: memory, files, threads, commits
# make fuzz    a million mutated inputs at every door
# make lock    resolve the lock files anew
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps

.PHONY: demo test lint bench fuzz soak lock clean

demo: $(VENV)/.runtime
	$(BIN)/driftd demo

test: lint
	$(BIN)/pytest -q

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.ready
	$(BIN)/python -m tests.fuzz --runs 1000000

soak: $(VENV)/.ready
	$(BIN)/python -m benchmarks._soak

bench: $(VENV)/.ready
	for script in benchmarks/[!_]*.py; do $(BIN)/python -m "benchmarks.$$(basename $$script .py)" || exit 1; done

# The development packages include everything that runs.
$(VENV)/.runtime: $(if $(wildcard $(VENV)/.ready),$(VENV)/.ready,requirements.lock pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/.ready || $(PIP) --require-hashes -r requirements.lock
	test -e $(VENV)/.ready || $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements-dev.lock
	$(PIP) --no-build-isolation --editable .
	touch $@

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		-c requirements.lock pyproject.toml --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
