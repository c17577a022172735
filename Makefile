# make demo     install into .venv, run the built-in study, print its answer and the report's path (again: at once)
# make test     install into .venv, then every check, and every test that is not marked slow
# make test-all the same with the slow tests
# make lint     the checks alone (ruff, mypy)
# make results DATA=folder   the results page (docs/results.md) over the data sets of that folder; resumable, hours
# Needs Python >= 3.11 with pip; another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := OMP_NUM_THREADS=1 $(BIN)

.PHONY: help install demo test test-all lint format results clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "make: $(PYTHON) is not there; name a Python >= 3.11: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $$("$(PYTHON)" --version 2>&1) is too old; name a Python >= 3.11: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2> /dev/null || test -x $(BIN)/python || { \
		echo "make: $(PYTHON) cannot make virtual environments; install its venv package (python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/sidelight run phone-watch --resume $(DEMO)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN)/mypy

test: lint
	@$(RUN)/pytest -n auto

test-all: lint
	@$(RUN)/pytest -n auto -m ""

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(STAMP)
	@test -n "$(DATA)" || { echo "make: name the folder of the data sets: make results DATA=folder" >&2; exit 1; }
	$(BIN)/python benchmarks/results.py "$(DATA)" --output runs/results
	$(BIN)/python benchmarks/results.py "$(DATA)" --output runs/results --page

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
