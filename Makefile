# make demo     the main job on what is in the package: a table and a picture (about six minutes, no download
#               but Python packages)
# make test     lint and all tests
# make quick    ruff and the tests of the core, for use while editing (about a minute on two cores)
# make lint     ruff and mypy
# make docs     the documentation site, in site/; a broken link is an error
# make package  wheel and source distribution, in dist/, each tried in an empty environment
# make clean    remove the virtual environment and what was built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CODE := src tests benchmarks stress tools
# From the files to the learner and its evaluation; no browser, no command line, no run from end to end.
CORE := tests/storage tests/vit/compute tests/latents tests/replay tests/learning tests/evaluation tests/test_house.py

.PHONY: demo test quick lint docs package clean

demo: $(VENV)/core
	$(BIN)/vitlr demo --out runs/demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

quick: $(VENV)/dev
	$(BIN)/ruff check $(CODE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(CORE)

lint: $(VENV)/dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

package: $(VENV)/build
	$(BIN)/python tools/check_package.py

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "vitlr needs Python 3.10 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# PyTorch first and exactly. If pip can find a CPU build (a wheel on disk, an index of CPU wheels), it takes that one;
# from a plain index a Linux machine gets the build with GPU libraries, several gigabytes larger.
$(VENV)/core: $(VENV)/python pyproject.toml constraints.txt
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) -e '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/core
	$(INSTALL) -e '.[docs]'
	touch $@

$(VENV)/build: $(VENV)/python constraints.txt
	$(INSTALL) build
	touch $@

clean:
	rm -rf $(VENV) build dist site
