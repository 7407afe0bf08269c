# make demo    the whole line on this machine, from nothing but Python and make
# make test    set up and pass everything: lint, types, floors, tests
# make systemd the units under a real systemd, two boxes side by side; as root
# make bench   measure everything that has a goal
# make faults  every fault over several seeds (SEEDS=5); ONLY=disk for some of them; goes on where it was stopped
# make soak    an hour of service with faults sprinkled in: memory, files, threads, commits
# make fuzz    a million mutated inputs at every door
# make airflow a real Airflow, in an environment of its own, takes retraining calls
# make audit   known weaknesses of the packages that run
# make dist    a release: dist/driftd-VERSION.tar.gz, to unpack and install from (dist-offline: with all packages in it)
# make newest-kafka  what leans on inner parts of kafka-python against the newest there is; warns, never fails
# make lock    resolve the lock files anew
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DIST   ?= dist
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps

AXE    ?= $(HOME)/.cache/driftd/axe

.PHONY: demo test lint systemd axe airflow audit bench faults fuzz soak newest-kafka dist dist-offline lock clean

demo: $(VENV)/.runtime
	$(BIN)/driftd demo

test: lint axe
	$(BIN)/pytest -q -n 2 --dist worksteal

systemd: $(VENV)/.ready
	$(BIN)/pytest -q -n 2 --dist worksteal tests/systemd

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What judges the page's accessibility; its tests are skipped where it cannot be had.
axe: $(AXE)/node_modules/axe-core/axe.min.js
$(AXE)/node_modules/axe-core/axe.min.js:
	-npm install --silent --no-audit --no-fund --no-save --prefix $(AXE) axe-core@4.14.1

# Known weaknesses of the packages that run. Where the advisory database cannot be reached, that is said and no failure.
AUDIT := $(VENV)-audit
audit:
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; } || \
		{ echo "warning: pip-audit cannot be had; nothing was audited"; exit 0; }; \
	$(AUDIT)/bin/pip-audit --require-hashes --disable-pip --requirement requirements.lock >$(AUDIT)/said 2>&1; \
	status=$$?; cat $(AUDIT)/said; \
	if test $$status -ne 0 && grep -qE "ServiceError|ConnectionError|Max retries|not be reached|Name or service" $(AUDIT)/said; \
	then echo "warning: the advisory database cannot be reached; nothing was audited"; exit 0; fi; \
	unknown=$$(grep -c "could not be audited" $(AUDIT)/said); test $$unknown -eq 0 || \
		echo "warning: the advisory database does not know $$unknown packages"; \
	exit $$status

# Its packages would not go with ours. Where it cannot be installed, that is said and no failure.
AIRFLOW := $(VENV)-airflow
airflow: $(VENV)/.ready
	@test -e $(AIRFLOW)/.ready || { $(PYTHON) -m venv $(AIRFLOW) && $(AIRFLOW)/bin/pip install --quiet \
		--disable-pip-version-check "apache-airflow==3.3.2" && touch $(AIRFLOW)/.ready; } || \
		{ echo "warning: Airflow cannot be installed; nothing was tested against it"; exit 0; }; \
	DRIFTD_AIRFLOW=$(abspath $(AIRFLOW))/bin/airflow $(BIN)/pytest -q -n 0 tests/channels/test_airflow.py

fuzz: $(VENV)/.ready
	$(BIN)/python -m tests.fuzz --runs 1000000

SEEDS  ?= 5
AT_ONCE ?= 2
RUNS   := build/faults.jsonl

faults: $(VENV)/.ready
	mkdir -p build
	DRIFTD_FAULT_SEEDS=$(SEEDS) DRIFTD_FAULT_RESULTS=$(abspath $(RUNS)) $(BIN)/pytest tests/faults -k "$(ONLY)" -n $(AT_ONCE); \
	code=$$?; PYTHONPATH=tests $(BIN)/python -m faults.results $(RUNS) docs/faults.md && exit $$code

soak: $(VENV)/.ready
	$(BIN)/python -m benchmarks._soak

# A copy of this environment, so that the pinned one stays as it is.
newest-kafka: $(VENV)/.ready
	rm -rf $(VENV)-newest && $(PYTHON) -m venv $(VENV)-newest
	echo "$$($(abspath $(BIN))/python -c 'import site; print(site.getsitepackages()[0])')" \
		> "$$($(VENV)-newest/bin/python -c 'import site; print(site.getsitepackages()[0])')/beneath.pth"
	$(VENV)-newest/bin/pip install --quiet --disable-pip-version-check --pre --upgrade --no-deps kafka-python
	$(VENV)-newest/bin/python -m pytest -q -o addopts= tests/monitor/test_kafka_framing.py tests/monitor/test_kafka_source.py \
		|| echo "WARNING: driftd does not suit kafka-python $$($(VENV)-newest/bin/python -c 'import kafka; print(kafka.__version__)')"

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

RELEASE = $(DIST)/driftd-$(shell $(BIN)/driftd version)
PACK    = tar -C $(DIST) --owner=0 --group=0 -czf $(RELEASE).tar.gz $(notdir $(RELEASE))

dist: $(VENV)/.ready
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	$(BIN)/python -m hatchling build --target wheel --directory $(RELEASE)
	cp -r systemd docs requirements.lock config.example.toml README.md LICENSE $(RELEASE)/
	$(PACK)

dist-offline: dist
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--requirement requirements.lock --dest $(RELEASE)/wheels
	$(PACK)

systemd/driftd@.service: systemd/driftd.service systemd/instance.sed
	sed -f systemd/instance.sed systemd/driftd.service >$@

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		-c requirements.lock pyproject.toml --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) $(VENV)-newest .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
