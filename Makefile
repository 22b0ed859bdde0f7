# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test oldest pythons gpu campaign check format bench damage fuzz reliability environments clean

# How long `make fuzz` looks for a failing input, for each of five kinds of input.
FUZZ_SECONDS ?= 120

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
# torch by itself and first: what comes after finds it there, and does not look for another build of it.
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/perdure demo

test: $(VENV)/.installed
# A wheel of TorchRL holds its C++ part for one torch only: once in a venv it is built for the pinned one.
	$(BIN)/python tools/build_torchrl_extension.py
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# What is tested with other versions: a part for each layer, and the README's blocks.
PARTS = tests/test_minimums.py tests/state/test_state_rng.py tests/state/test_state_values.py tests/store/test_store_commit.py \
    tests/run/test_run.py

# The oldest versions that pyproject.toml declares (torch aside), before those of the first venv on the path.
$(VENV)-oldest/.installed: $(VENV)/.installed constraints-oldest.txt
	$(BIN)/python -m venv --clear --without-pip $(VENV)-oldest
	$(BIN)/pip --python $(VENV)-oldest/bin/python install --quiet --no-deps --requirement constraints-oldest.txt
	$(VENV)-oldest/bin/python -c "import pathlib, sysconfig; \
	    pathlib.Path(sysconfig.get_path('purelib'), 'others.pth').write_text('$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")\n')"
	touch $@

oldest: $(VENV)-oldest/.installed
	PYTHONPATH=$(CURDIR)/src $(VENV)-oldest/bin/python -m pytest --numprocesses $(WORKERS) $(PARTS) tests/examples/test_readme.py -k "not check-env"

# Other Pythons, as far as there are any: each in a venv that takes minutes to install.
PYTHONS ?= python3.12 python3.13 python3.14
pythons:
	for python in $(PYTHONS); do \
	    if ! $$python -c pass 2>/dev/null; then echo "$$python: there is none on this machine, so it was not tested"; continue; fi; \
	    venv=$(VENV)-$$(basename $$python); \
	    $$python -m venv $$venv && $$venv/bin/pip install --quiet --constraint constraints.txt torch && \
	    $$venv/bin/pip install --quiet --constraint constraints.txt --editable '.[gymnasium]' pytest pytest-timeout hypothesis safetensors && \
	    $$venv/bin/python -m pytest $(PARTS) tests/scripts/test_run_command.py || exit 1; done

# What needs CUDA, and a torch that has it: the pinned one need not. Elsewhere it is skipped.
gpu: $(VENV)/.installed
	$(BIN)/python -m pytest -m gpu tests/run

# What the suite samples, in full; some ten minutes.
campaign: $(VENV)/.installed
	$(BIN)/python -m pytest -m campaign --timeout 900 --numprocesses $(WORKERS) --dist worksteal

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers that the benchmarks measure are no part of what development needs.
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCH)

damage: $(VENV)/.installed
	PERDURE_EXHAUSTIVE=1 $(BIN)/python -m pytest -rA --timeout 3600 --numprocesses $(WORKERS) --dist worksteal \
	    tests/reliability/test_damage.py tests/reliability/test_hostile_files.py tests/reliability/test_repair.py

fuzz: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	for target in document checkpoint pack page policy; do \
	    $(BIN)/python tests/reliability/fuzzing.py $$target --seconds $(FUZZ_SECONDS) || exit 1; done

# Long ones, each for so many minutes: power cuts on a simulated disk, real kills with readers.
MINUTES ?= 20
reliability: $(VENV)/.installed
	$(BIN)/python tests/reliability/crash_campaign.py --minutes $(MINUTES)
	$(BIN)/python tests/reliability/kills.py --kills 300 --minutes $(MINUTES)

# Some 170 environments in fresh processes; begins no further one after three hours, and goes on where it was.
environments: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,campaign]'
	$(BIN)/python -m environments --workers $(WORKERS)
	$(BIN)/python -m pytest -m environments tests/environments
	$(BIN)/python -m pytest tests/environments/vector_matrix.py

clean:
	rm -rf .fuzz $(VENV) $(VENV)-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
