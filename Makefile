# make train      set up .venv if needed and train on the embedded phantom set
# make test       set up .venv if needed and run the first tier of the tests: every behaviour once
# make test-all   both tiers: every backend, dtype and layout, in all pairs of parameters
# make test-slow  what takes more than a minute or more than 8 GiB, one after another
# make lint       ruff and mypy

PYTHON ?= python3
VENV ?= .venv
# Training on two cores ends within 8 minutes; slower processors stop at MINUTES with what they have.
STEPS ?= 1000
MINUTES ?= 5

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := setup.py pyproject.toml constraints.txt CMakeLists.txt $(shell find csrc -type f)

.PHONY: train test test-all test-slow lint clean

train: $(INSTALLED)
	$(BIN)/python -m cxrgan_fast.train --data phantom --steps $(STEPS) --max-minutes $(MINUTES)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The torch of constraints.txt first: an unpinned one could be another build altogether.
$(INSTALLED): $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt torch
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info cxrgan_fast/_C*.so .pytest_cache .mypy_cache .ruff_cache
