# Two commands matter: `make demo` and `make test`. Both work in a fresh clone with nothing but
# Python 3.11+, git and make.
#
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#
# takes PyTorch's small CPU build where pip would fetch the CUDA one.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin

# Never let a variable of the caller's environment choose another home for the demo.
unexport RENDERMILL_HOME

.PHONY: demo test gpu lint types contracts wheel-test bench bench-farm chaos readme clean help
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_ARGS) --quiet --upgrade pip
	touch $@

$(VENV)/.demo: pyproject.toml constraints.txt $(VENV)/.made
	$(BIN)/pip install $(PIP_ARGS) --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.made
	$(BIN)/pip install $(PIP_ARGS) --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## Render examples/shapes.jsonl with the model that ships with the package
	$(BIN)/rendermill render examples/shapes.jsonl --name shapes
	$(BIN)/rendermill contact-sheet shapes --output rendermill-home/shapes.png
	@echo
	@echo "pictures       rendermill-home/renders/shapes/"
	@echo "contact sheet  rendermill-home/shapes.png"
	@echo "catalog        rendermill-home/catalog.db   ($(BIN)/rendermill images)"

# Unit tests and conformance share nothing, so each core takes its part; module by module, because
# what a module's tests share is made once. The rest start services and kill processes, and have
# the machine for themselves.
TOGETHER := tests/unit tests/conformance

test: $(VENV)/.dev  ## Run all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope $(TOGETHER)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(TOGETHER))

gpu: $(VENV)/.dev  ## Run the tests that need a CUDA device (without one they are skipped)
	$(BIN)/python -m pytest tests/gpu -rs

lint: $(VENV)/.dev  ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev  ## Check types
	$(BIN)/mypy

contracts: $(VENV)/.dev  ## Check which package may import which
	$(BIN)/lint-imports

wheel-test: $(VENV)/.dev  ## Build the wheel, install it in a clean environment, test that
	.ci/wheel-test $(PYTHON)

bench: $(VENV)/.dev  ## Run the benchmarks (some minutes; keep the machine quiet)
	$(BIN)/python tests/benchmarks/bench_ingest.py
	$(BIN)/python tests/benchmarks/bench_render.py

bench-farm: $(VENV)/.dev  ## Benchmark the farm on private brokers (half an hour; FARM="scaling" for a part)
	$(BIN)/python -m tests.benchmarks.bench_farm $(FARM)

CHAOS ?= --minutes 10 --items 10000 --broker rabbitmq
chaos: $(VENV)/.dev  ## Kill something every few seconds for ten minutes (CHAOS="--broker redis --seed 1")
	$(BIN)/python -m tests.chaos $(CHAOS)

readme: $(VENV)/.dev  ## Write the table of families anew
	$(BIN)/python -m scheduler.estimate.table <README.md >README.new
	mv README.new README.md

clean:  ## Remove what was built and rendered here
	rm -rf $(VENV) build dist rendermill-home benchmark-out
