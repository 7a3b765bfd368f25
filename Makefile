# `make demo` runs both stages and an evaluation on the embedded pair; `make test` runs the quick checks, `make test-all`
# every one. Each sets up first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.llink-ready
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo bench test quick test-all test-slow test-oldest test-newest lint docs setup clean
.DEFAULT_GOAL := demo

demo: setup
	$(BIN)/llink demo

# A minute: passes, tokens, FLOPs, bytes and graphs, counted and compared with benchmarks/results/bench.json.
bench: setup
	$(BIN)/python benchmarks/bench.py

# Some minutes: lint beside the tests of every room that need no second process.
test: setup
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint quick

quick: setup
	$(PYTEST) -m "not slow"

test-all: test test-slow test-oldest test-newest

# What starts processes or servers, trains for a minute, or draws many examples.
test-slow: setup
	LLINK_MANY_EXAMPLES=1 $(PYTEST) -m "slow or hypothesis"

# A part of the tests on the ends of what setup.cfg allows.
test-oldest test-newest: setup
	.ci/matrix $(@:test-%=%)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy finds the package by its folder's name, whatever this one is called
	types=$$(mktemp -d) && ln -s $(CURDIR) $$types/llink && cd $$types && $(abspath $(BIN))/python -m mypy \
	  --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache; status=$$?; rm -r $$types; exit $$status

# The site, into site/, from docs/ and the docstrings; nothing is fetched, and a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf build dist site *.egg-info runs .pytest_cache .ruff_cache .hypothesis
