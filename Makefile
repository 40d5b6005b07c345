# The one developer interface. Every target makes what it needs; PYTHON picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PLAYS = $(VENV)/.plays
MEASURES = $(VENV)/.measures

.PHONY: help demo test readers lab-test lint format bench clean

help:
	@echo "make demo      a whole fleet on this machine: no GPU, no root, no network"
	@echo "make test      everything that needs only Python (under 5 minutes on 2 cores)"
	@echo "make readers   of these what reads bytes from outside, for a Python of your choice: make readers PYTHON=... VENV=..."
	@echo "make lab-test  real hosts, real OpenSSH, real Ollama; needs root on Debian"
	@echo "make lint      ruff, mypy --strict, import-linter"
	@echo "make bench     every figure of docs/performance.md, measured on this machine"

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The demo needs less than the tests do, and is the first thing that a newcomer waits for.
$(PLAYS): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . 'ollama>=0.6'
	@touch $@

demo: $(PLAYS)
	$(BIN)/olladist demo

test: $(READY)
	$(BIN)/python -m pytest -m "not lab" -n 2

# What reads bytes from outside: another Python must not read them otherwise.
readers: $(READY)
	$(BIN)/python -m pytest tests/test_patterns.py tests/ollama tests/gateway/edge -m "not lab" -n 2

lab-test: $(READY)
	tests/lab/prepare
	$(BIN)/python -m pytest -m lab tests/lab -n 3 --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

$(MEASURES): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

bench: $(MEASURES)
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
