# make demo | test | lint | bench: each first makes or refreshes a local environment in .venv.
PYTHON ?= python3
PARALLEL ?= 2
DEMO ?= build/demo
BENCH ?= build/bench
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_VENV := build/bench-venv
BENCH_STAMP := $(BENCH_VENV)/.installed

.PHONY: demo test lint bench clean

# A phantom chest is registered; open $(DEMO)/result/overview.png.
demo: $(STAMP)
	$(BIN)/regsuite demo lung -o $(DEMO)

# One thread per worker: several test processes share the cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PARALLEL) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# Beside other programs, which live in an environment of their own; writes Testing/bench/RESULTS.md.
bench: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python Testing/bench/run.py -o $(BENCH) --peers-python $(BENCH_VENV)/bin/python

clean:
	rm -rf $(VENV) build

# The constraint pins torch as well: without it pip takes whatever build is newest.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,lint]'
	touch $@

$(BENCH_STAMP): Testing/bench/requirements.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet -r Testing/bench/requirements.txt
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps -r Testing/bench/requirements-no-deps.txt
	touch $@
