# `make demo` and `make test` do everything on a fresh machine with Python (3.11 or later) and make.
PYTHON ?= python3
BIN := .venv/bin
# what one process has compiled, the next one loads: tests start many
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint docs clean

demo: .venv/installed
	$(BIN)/clutr demo

test: .venv/installed-dev
	# screenshots of the live page, where a browser is found, are left for whoever wants to look at them
	CLUTR_SCREENSHOTS=$${CLUTR_SCREENSHOTS:-build/screenshots} $(BIN)/python -m pytest --numprocesses $${TEST_JOBS:-auto} --dist loadscope --no-loadscope-reorder

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# strictly: a broken link, a reference to nothing or a page without its part is an error
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch is installed by itself first, so that the pinned build is the one that every other package finds.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[car]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[car,distributed,sb3,inspect,dev]"
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@
