# The one developer interface. Every target makes what it needs; PYTHON picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PLAYS = $(VENV)/.plays
MEASURES = $(VENV)/.measures
COMPILED = $(VENV)/compiled
# An editable install runs what stands here, interpreted, and needs no compiler (hatch_build.py).
EDITABLE = HATCH_BUILD_NO_HOOKS=true $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
# What a user's install gets is found before the sources that stand here.
AS_INSTALLED = PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)

.PHONY: help demo test compiled compiled-test readers lab-test lint format bench clean

help:
	@echo "make demo      a whole fleet on this machine: no GPU, no root, no network"
	@echo "make test      everything that needs only Python (under 5 minutes on 2 cores)"
	@echo "make compiled-test  the same on what a user installs: a wheel whose gateway is compiled; needs a C compiler and Python's headers"
	@echo "make readers   of these what reads bytes from outside, for a Python of your choice: make readers PYTHON=... VENV=..."
	@echo "make lab-test  real hosts, real OpenSSH, real Ollama; needs root on Debian"
	@echo "make lint      ruff, mypy --strict, import-linter"
	@echo "make bench     every figure of docs/performance.md, measured on this machine"

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(EDITABLE) '.[dev]'
	@touch $@

# The demo needs less than the tests do, and is the first thing that a newcomer waits for.
$(PLAYS): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(EDITABLE) . 'ollama>=0.6'
	@touch $@

demo: $(PLAYS)
	$(BIN)/olladist demo

test: $(READY)
	$(BIN)/python -m pytest -m "not lab" -n 2

$(COMPILED)/.built: $(READY) hatch_build.py $(shell find olladist -name '*.py')
	rm -rf $(COMPILED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(COMPILED) .
	$(AS_INSTALLED) $(BIN)/python -c 'import olladist, sys; sys.exit(None if olladist.is_compiled() else "it was not compiled: pip install -v . says why")'
	@touch $@

compiled: $(COMPILED)/.built

compiled-test: $(COMPILED)/.built
	$(AS_INSTALLED) $(BIN)/python -m pytest -m "not lab" -n 2

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
	$(EDITABLE) '.[dev,bench]'
	@touch $@

bench: $(MEASURES) $(COMPILED)/.built
	$(AS_INSTALLED) $(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
