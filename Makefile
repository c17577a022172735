# make demo     install into .venv, run the built-in study, print its answer and the report's path (again: at once)
# make test     install into .venv, then every check, and every test that is not marked slow
# make test-all the same with the slow tests
# make docs     the documentation as a site, build/docs/index.html; a warning is an error (two minutes)
# make linkcheck  ask every address that the documentation links to (needs the network; minutes)
# make methods-page   write what docs/methods.md says of every method, from the code (a part of docs and of test)
# make lint     the checks alone (ruff, mypy)
# make test-lowest   a short study, its predictions, exports and report, in a venv of the lowest versions we allow (by hand)
# make lock     requirements.lock and requirements.lowest anew from pyproject.toml (UPGRADE=--upgrade: newest releases)
# make results DATA=folder   the results page (docs/results.md) over the data sets of that folder; resumable, hours
# Needs Python >= 3.11 with pip; another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := .venv-uv/bin/uv
LOWEST := .venv-lowest
QUIETLY := --quiet --disable-pip-version-check
RUN := OMP_NUM_THREADS=1 $(BIN)

.PHONY: help install demo docs linkcheck methods-page test test-all test-lowest lint lock format results clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

install: $(STAMP)

$(STAMP): requirements.lock requirements-torch.txt pyproject.toml
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "make: $(PYTHON) is not there; name a Python >= 3.11: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $$("$(PYTHON)" --version 2>&1) is too old; name a Python >= 3.11: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2> /dev/null || test -x $(BIN)/python || { \
		echo "make: $(PYTHON) cannot make virtual environments; install its venv package (python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install $(QUIETLY) --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install $(QUIETLY) -r requirements-torch.txt
	$(BIN)/python -m pip install $(QUIETLY) --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check --disable-pip-version-check
	@touch $(STAMP)

# Two seeds, stacks and a patience of 7 epochs (not 10) keep it below three minutes on two cores.
demo: $(STAMP)
	$(BIN)/sidelight run phone-watch --resume --seeds 2 training.stack=0 training.patience=7 $(DEMO)

methods-page: $(STAMP)
	@$(BIN)/python -m sidelight.methods.catalog docs/methods.md

docs: methods-page
	@$(RUN)/python -m sphinx -q -j auto --fail-on-warning --keep-going -b html docs build/docs
	@echo build/docs/index.html

linkcheck: methods-page
	@$(RUN)/python -m sphinx -q -b linkcheck docs build/linkcheck
	@echo build/linkcheck/output.txt

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN)/mypy

# Neighbouring tests stay with one worker, which trains what they share once.
test: methods-page lint
	@$(RUN)/pytest -n auto --dist worksteal

test-all: methods-page lint
	@$(RUN)/pytest -n auto --dist worksteal -m ""

# The lock names no index and no folder, so any machine with uv makes the same one. Pins stay where they still fit.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --annotation-style line \
	--custom-compile-command "make lock"

$(UV):
	"$(PYTHON)" -m venv .venv-uv
	.venv-uv/bin/python -m pip install $(QUIETLY) uv==0.13.9

# On Python 3.11: some of the lowest versions have no wheels for later ones. torch brings its own libraries, with a CUDA
# build several GB, so that this is no part of `make test`.
$(LOWEST)/.installed: requirements.lowest
	"$(PYTHON)" -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install $(QUIETLY) -r requirements.lowest
	$(LOWEST)/bin/python -m pip install $(QUIETLY) --no-deps --no-build-isolation -e .
	$(LOWEST)/bin/python -m pip check --disable-pip-version-check
	@touch $@

test-lowest: $(LOWEST)/.installed
	rm -rf runs/lowest
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python tests/helpers/short_study.py runs/lowest
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n auto $(TESTS)

lock: $(UV)
	$(COMPILE) $(UPGRADE) pyproject.toml --all-extras --universal --fork-strategy fewest --generate-hashes \
		--constraint requirements-torch.txt --no-emit-package torch --output-file requirements.lock
	$(COMPILE) --upgrade pyproject.toml --all-extras --resolution lowest-direct --output-file requirements.lowest

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

results: $(STAMP)
	@test -n "$(DATA)" || { echo "make: name the folder of the data sets: make results DATA=folder" >&2; exit 1; }
	$(BIN)/python benchmarks/results.py "$(DATA)" --output runs/results
	$(BIN)/python benchmarks/results.py "$(DATA)" --output runs/results --page

clean:
	rm -rf $(VENV) $(LOWEST) .venv-uv build dist .pytest_cache .mypy_cache .ruff_cache
