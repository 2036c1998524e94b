# make round | test | lint | bench | nano | clean — each sets up what it needs in .venv on a machine with Python 3.11.
PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: round test lint bench nano clean

round: $(INSTALLED)
	$(BIN)/flywheel round --n 4

test: $(INSTALLED)
	$(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/answer.py
	$(BIN)/python benchmarks/score.py
	$(BIN)/python benchmarks/similarity.py

nano: $(INSTALLED)
	$(BIN)/python -m flywheel.nano.build

clean:
	rm -rf $(VENV) workspace build dist .pytest_cache .mypy_cache .ruff_cache

# torch first: an open range would fetch another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error no python3.11 found; install it, or name one: make PYTHON=/path/to/python))
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
