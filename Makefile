# `make demo` runs both stages and an evaluation on the embedded pair; `make test` runs the checks. Both set up first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.llink-ready

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint setup clean
.DEFAULT_GOAL := demo

demo: setup
	$(BIN)/llink demo

test: setup lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy finds the package by its folder's name, whatever this one is called
	types=$$(mktemp -d) && ln -s $(CURDIR) $$types/llink && cd $$types && $(abspath $(BIN))/python -m mypy \
	  --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache; status=$$?; rm -r $$types; exit $$status

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf build dist *.egg-info runs .pytest_cache .ruff_cache .hypothesis
