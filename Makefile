# carbonmon: two commands do everything on a machine with python3, pip, make and gcc:
#   make run    sets up and monitors a real training job
#   make test   sets up, checks and runs all tests
.DEFAULT_GOAL := help
.PHONY: audit dashboards data-check docs help images lock run run-simulated release test test-units test-e2e test-frameworks test-launchers test-python system-deps tools check wheel-test bench bench-peers gpu-check fuzz chaos soak format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TRAIN: options of the example, for instance TRAIN="--seconds 5"
TRAIN ?=
GPU_CHECK ?=
BENCH ?=
RELEASE ?=
# End-to-end tests wait for most of their time: three to a CPU. The others compute for two thirds: three to two CPUs.
COMPUTING ?= $(shell expr 3 '*' $$(nproc) / 2)
WAITING ?= $(shell expr 3 '*' $$(nproc))
# What starts make in a test starts one of its own.
PYTEST = env --unset=MAKEFLAGS --unset=MFLAGS --unset=MAKELEVEL $(BIN)/python -m pytest --durations=15
# Not all of tests/: each worker imports what it is given.
E2E = tests/e2e $(shell grep -rl --include='test_*.py' --exclude-dir=e2e 'mark\.e2e' tests | sort)
# Versions with the hashes of their files, for every Python that we support: `make lock` makes them anew.
LOCKED := --require-hashes --requirement requirements
SETUP := pyproject.toml carbonmon/version.py

# Programs are started thousands of times: they must not compile themselves each time.
unexport PYTHONDONTWRITEBYTECODE

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(VENV)/.demo ## monitor a real training job of some 20 seconds
	$(BIN)/carbonmon run -- $(BIN)/python examples/train_digits.py $(TRAIN)

run-simulated: $(VENV)/.demo ## the same on a simulated machine with 4 GPUs and 2 sockets
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.simulator --gpus 4 --packages 2 \
	  --runs carbonmon-runs -- \
	  carbonmon run --region FR --gpus 0,1,2,3 -- python examples/train_digits.py $(TRAIN)

test: ## everything: checks, the documentation, all tests, the built wheel
	@$(MAKE) --no-print-directory --jobs 2 --output-sync $(VENV)/.dev tools
	@$(MAKE) --no-print-directory --jobs 2 --output-sync check docs wheel-test
	@$(MAKE) --no-print-directory --jobs 1 --keep-going test-units test-e2e

test-units: $(VENV)/.dev ## the tests that compute, on COMPUTING=3 workers
	$(PYTEST) -m "not e2e" --numprocesses $(COMPUTING)

test-e2e: $(VENV)/.dev tools ## the tests that start real processes and wait for them, on WAITING=6 workers
	$(PYTEST) -m e2e --numprocesses $(WAITING) $(E2E)

tools: ## fetch and build what the end-to-end tests start, below build/
	@$(PYTHON) -m tests.support.tools

system-deps: ## say what the tests need from the system, and install it where this is root on Debian
	@$(PYTHON) tests/system_deps.py

# PY: a Python's command or path, for instance PY=python3.12 or PY=~/.pyenv/versions/3.10.13/bin/python
test-python: ## all tests with another Python, in an environment of its own: make test-python PY=python3.12
	@test -n "$(PY)" || { echo "which Python? make test-python PY=python3.12" >&2; exit 2; }
	$(MAKE) test PYTHON="$(PY)" VENV="build/venv-$(notdir $(shell $(PY) -c 'import platform; print(platform.python_version())'))"

check: $(VENV)/.dev ## format, lint, types, and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --no-progress .
	$(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR --severity=warning .ci/run deploy/slurm/*log.sh

# -E: all pages anew; a page from the cache would keep its warning to itself
docs: $(VENV)/.dev ## build the documentation as a site in build/docs/html; a warning is an error
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -d build/docs/doctrees docs build/docs/html

wheel-test: $(VENV)/.dev ## build the wheel, install it alone elsewhere and use it
	$(BIN)/python tests/wheel_check.py

# RELEASE: options, for instance RELEASE=--rehearse before the changelog is final
release: $(VENV)/.dev ## build sdist and wheel twice, compare and check them, run README's commands in clean environments
	$(BIN)/python -m tests.release $(RELEASE)

# BENCH: options, for instance BENCH="--beside ~/carbonmon-0.2.0/bin/python" for another build beside this one
bench: $(VENV)/.dev ## print the tables of docs/use/measurements.md for this machine
	$(BIN)/python -m tests.bench $(BENCH)

# Some 60 MB of other projects' releases in build/data-check; needs npm.
data-check: $(VENV)/.dev ## compare the tables with those of other projects, and write docs/develop/data-check.md (3 minutes)
	$(BIN)/python -m tools.data_check

# Some 1 GB of other programs in build/peers.
bench-peers: $(VENV)/.dev ## measure other programs beside carbonmon, in turn on a simulated machine (12 minutes)
	$(BIN)/python -m tests.bench.peers

# The Python that has PyTorch and nvidia-ml-py serves if it is there; else the demo's, which has no PyTorch.
# GPU_CHECK: options, for instance GPU_CHECK="--minutes 10 --lower-power-limit"
gpu-check: ## prove the meter on this machine's GPU in 3 minutes; without one on a simulated GPU
	@if $(PYTHON) -c 'import pynvml, psutil, click, prometheus_client' 2>/dev/null; \
	then PYTHONPATH=.:exporters $(PYTHON) -m tests.gpucheck $(GPU_CHECK); \
	else $(MAKE) --no-print-directory $(VENV)/.demo && $(BIN)/python -m tests.gpucheck $(GPU_CHECK); fi

# Some 6 GB, most of it CUDA, in build/launchers and not in the environment of development.
LAUNCHERS := build/launchers
# TEST_LAUNCHERS: options of pytest, for instance TEST_LAUNCHERS="-k Lightning"
test-launchers: $(LAUNCHERS)/.done ## start torchrun, accelerate, Lightning, Fabric and Ray, each for real (20 minutes)
	$(LAUNCHERS)/bin/python -m pytest tests/launchers -o python_files='check_*.py' -p no:cacheprovider -rA $(TEST_LAUNCHERS)

$(LAUNCHERS)/.done: tests/support/launchers.txt $(SETUP)
	$(PYTHON) -m venv $(LAUNCHERS)
	$(LAUNCHERS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(LAUNCHERS)/bin/python -m pip install --quiet --editable . -r tests/support/launchers.txt
	@touch $@

# Some 2 GB in build/, in an environment of its own for each list of releases.
# FRAMEWORKS: frameworks or frameworks-oldest; TEST_FRAMEWORKS: options of pytest, for instance TEST_FRAMEWORKS="-k ranks"
FRAMEWORKS ?= frameworks
test-frameworks: build/$(FRAMEWORKS)/.done ## train with transformers, Lightning and Keras and our callbacks, each for real (5 minutes)
	build/$(FRAMEWORKS)/bin/python -m pytest tests/frameworks -o python_files='check_*.py' -p no:cacheprovider -rA $(TEST_FRAMEWORKS)

build/$(FRAMEWORKS)/.done: tests/support/$(FRAMEWORKS).txt $(SETUP)
	$(PYTHON) -m venv build/$(FRAMEWORKS)
	build/$(FRAMEWORKS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	build/$(FRAMEWORKS)/bin/python -m pip install --quiet --editable . -r tests/support/$(FRAMEWORKS).txt
	@touch $@

chaos: $(VENV)/.dev ## kill, starve and mislead the monitor for some minutes: the table of docs/use/reliability.md
	$(BIN)/python -m tests.chaos

soak: $(VENV)/.dev ## a node whose runs come and go, for SOAK_MINUTES=20: what grows, and whether every joule is there
	$(BIN)/python -m tests.soak --minutes $(or $(SOAK_MINUTES),20)

fuzz: $(VENV)/.dev ## damage every file that is read, for FUZZ_MINUTES=5
	$(BIN)/python -m tests.fuzz --minutes $(or $(FUZZ_MINUTES),5)

# In an environment of their own: what looks at packages is none of them.
build/supply-chain/.done: requirements/tools.txt
	$(PYTHON) -m venv build/supply-chain
	build/supply-chain/bin/python -m pip install --quiet $(LOCKED)/tools.txt
	@touch $@

# LOCK: options of uv, for instance LOCK=--upgrade
lock: build/supply-chain/.done ## write requirements/*.txt from pyproject.toml: what is not needed anew stays as it is
	build/supply-chain/bin/python -m tests.lock $(LOCK)

audit: build/supply-chain/.done ## look up the locked versions among known vulnerabilities; 2: they could not be looked up
	build/supply-chain/bin/python -m tests.audit

format: $(VENV)/.dev ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dashboards: $(VENV)/.dev ## write deploy/grafana/dashboards from deploy/grafana/boards and the tables
	$(BIN)/python -m deploy.grafana.boards

images: $(VENV)/.dev ## write the pictures of the documentation: a real browser, simulated hardware
	$(BIN)/python -m tests.images

clean: ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Dependency groups need pip 25.1, newer than many machines have. The machine's pip, from 22.3 on, puts it there in
# two seconds; else the environment begins with Python's own pip, and that replaces itself.
$(VENV)/.venv:
	{ $(PYTHON) -m venv --without-pip $(VENV) \
	    && $(PYTHON) -m pip --python $(BIN)/python install --quiet --no-compile $(LOCKED)/pip.txt; } 2>/dev/null \
	  || { { $(PYTHON) -m venv --clear $(VENV) \
	      || { rm -rf $(VENV) && $(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv \
	        && PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }; } \
	    && $(BIN)/python -m pip install --quiet $(LOCKED)/pip.txt; }
	@touch $@

$(VENV)/.demo: $(VENV)/.venv $(SETUP)
	$(BIN)/python -m pip install --quiet --editable . --group demo
	@touch $@

# Nothing is compiled here: Python compiles what is imported, a fifth of all this.
$(VENV)/.dev: $(VENV)/.venv $(SETUP) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-compile $(LOCKED)/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m tests.lock --check
	@touch $@ $(VENV)/.demo
