# make demo   the main job on what is in the package: a table and a picture (about three minutes, no download
#             but Python packages)
# make test   lint and all tests
# make lint   ruff and mypy
# make clean  remove the virtual environment

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/core
	$(BIN)/vitlr demo --out runs/demo

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/dev
	$(BIN)/ruff check src tests benchmarks stress tools
	$(BIN)/ruff format --check src tests benchmarks stress tools
	$(BIN)/mypy

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "vitlr needs Python 3.10 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# PyTorch first and exactly. Where pip knows of a CPU build (a wheel on disk, an index of CPU wheels), it is taken;
# from a plain index a Linux machine gets the build with GPU libraries, several gigabytes larger.
$(VENV)/core: $(VENV)/python pyproject.toml constraints.txt
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
