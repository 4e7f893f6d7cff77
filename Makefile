# make demo: solve a held-out Sudoku and word problems and show the canvas fill in. make test: set up and run what CI runs.
# make docs: the static site, in site/.
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test test-gpu lint docs clean

$(BIN)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(BIN)/.ready: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(BIN)/.installed
	$(BIN)/remask demo

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs site

test: lint
	$(BIN)/python -m pytest

test-gpu:
	PYTHONPATH=src $(PYTHON) -m pytest -o addopts=-q -m gpu

clean:
	rm -rf $(VENV)
