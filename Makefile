# Everything happens in .venv, made on first use. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
CODE := src tests scripts bench

CHECKPOINT ?=
STEPS ?=
EVALUATE = $(BIN)/stemforge evaluate "$(DIR)" $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(STEPS),--steps $(STEPS))

.PHONY: help env data-env dev-env demo test test-slow check format docs score bench gpu-kit showcase build picture \
        release-check clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(VENV)/env.stamp  ## .venv with what `stemforge separate` needs
data-env: $(VENV)/data.stamp  ## env, and what `stemforge data render` needs
dev-env: $(VENV)/dev.stamp  ## data-env, and what training and tests need

demo: env  ## take the example song apart
	$(BIN)/stemforge separate examples/demo.flac --out separated --on-exist overwrite
	@ls -sh separated/*/demo

test: dev-env  ## the fast tests
	$(BIN)/python -m pytest -q

test-slow: dev-env  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network"

check: dev-env  ## format, lint, types
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

format: dev-env  ## bring the code into form
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

docs: dev-env  ## write docs/cli.md anew, and docs/ as a site into site/
	$(BIN)/python scripts/write_cli_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

score: env  ## DIR=songs [CHECKPOINT=name] [STEPS=n]: add the stems of each song up, separate the sum, evaluate
	@test -n "$(DIR)" || { echo "say make score DIR=folder, with one folder a song and one file a stem in it" >&2; exit 2; }
	$(EVALUATE)

bench: dev-env  ## time and memory of `stemforge separate`; with PEERS=RUNS DIR=SONGS trained peers too (docs/benchmarks.md)
	$(BIN)/python bench/speed.py
	$(if $(PEERS),$(BIN)/python bench/peers.py table "$(DIR)" "$(PEERS)"/*)

gpu-kit: data-env  ## pack what an offline GPU machine needs to render and train
	$(BIN)/python scripts/gpu_kit.py

showcase: dev-env  ## docs/showcase.html: what the weights can do, to be heard in a minute
	$(BIN)/python scripts/showcase.py $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")

build: dev-env  ## wheel and source archive into dist/
	$(BIN)/python -m build

release-check: $(VENV)/release.stamp  ## build the last commit, and use it from a new environment
	$(BIN)/python scripts/release_check.py

picture: demo  ## docs/stems.webp, the picture of the README, from what `make demo` wrote
	$(BIN)/python scripts/picture.py

clean:  ## remove what make made
	rm -rf $(VENV) dist build site separated .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("stemforge needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/env.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable .
	@touch $@

# tinysoundfont asks for an audio device library that rendering to files does not need.
$(VENV)/data.stamp: $(VENV)/env.stamp
	$(PIP_INSTALL) --editable ".[data]"
	$(PIP_INSTALL) --no-deps tinysoundfont==0.3.7
	@touch $@

# audio-diffusion-pytorch, which the tests compare with, asks for type stubs that hide those of numpy.
$(VENV)/dev.stamp: $(VENV)/data.stamp
	$(PIP_INSTALL) --editable ".[data,train,ui,text,dev]"
	$(PIP_INSTALL) --no-deps audio-diffusion-pytorch==0.0.43
	@touch $@

$(VENV)/release.stamp: $(VENV)/dev.stamp
	$(PIP_INSTALL) --editable ".[release]"
	@touch $@
