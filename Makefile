# Everything sets itself up: `make demo` and `make test` build .venv on their first run. Paths here are relative, so
# that a checkout in a folder with spaces works.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# What the recipes start must find this environment's commands (spark-submit, telltale) first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench
SETUP_INPUTS := setup.cfg pyproject.toml constraints.txt scripts/setup scripts/find-python scripts/check-java
RUN := runs/demo
BENCHES := decoders variants statistics augment predict shuffle loader train ingest_memory cluster_start hdfs_clients \
	small_files scaling same_bytes rehearsal

.PHONY: help setup demo test lint format bench bench-loader bench-train test-kill dist cluster cluster-down test-cluster test-cluster-full constraints clean

help:  ## Print these lines
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-12s %s\n' "$$name" "$$what"; done

setup: $(STAMP)  ## Build .venv with all extras (PYTHON=… chooses the interpreter: 3.11 or 3.12)

$(STAMP): $(SETUP_INPUTS)
	@scripts/setup
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@scripts/setup all,bench
	@touch $@

# Whoever names an interpreter wants it looked at, stamp or no stamp.
ifeq ($(origin PYTHON),command line)
.PHONY: $(STAMP)
endif

demo: $(STAMP)  ## Train a detector on real photographs and report how good it is, in about ten minutes
	@python -m pipeline.run configs/demo.yaml --run-dir $(RUN)
	@echo
	@echo "The report:      $(RUN)/report/report.html"
	@echo "Ask about a picture:"
	@echo "    source .venv/bin/activate"
	@echo "    telltale predict --bundle $(RUN)/model PICTURE.jpg"

test: $(STAMP)  ## All the checks and all the tests
	@scripts/check

lint: $(STAMP)  ## All the checks but the tests
	@scripts/check --lint

format: $(STAMP)  ## Let ruff lay out the code and mend what it can
	@ruff check --fix --exit-zero --quiet .
	@ruff format --quiet .

bench: $(BENCH_STAMP)  ## Measure, side by side, what benchmarks/ promises (BENCHES="decoders predict" chooses)
	@for bench in $(BENCHES); do echo "== benchmarks.$$bench"; python -m "benchmarks.$$bench"; done

bench-loader: $(STAMP)  ## Our loader beside four others (an hour and a half; makes them an environment)
	@python -m benchmarks.loader

bench-train: $(STAMP)  ## The trainer beside the bare model, on the CPU, and on a GPU if there is one
	@python -m benchmarks.train

test-kill: $(STAMP)  ## Kill the whole run at 20 random moments, and start it again each time
	@pytest -m kill_full

dist: $(STAMP)  ## Pack what a cluster's tasks need into dist/: our packages, and their libraries without torch
	@.venv/bin/python scripts/dist

cluster: $(STAMP)  ## Start real Hadoop and Spark daemons on this machine (needs Maven; 2 GB of memory, 8 with jobs)
	@python -m cluster up

cluster-down:  ## End them; their files stay in .cluster
	@if [ -e .cluster/cluster.json ]; then python -m cluster down; fi

test-cluster: $(STAMP)  ## The tests on real daemons, which they start for themselves
	@pytest -m cluster

test-cluster-full: $(STAMP)  ## Whole jobs on them too, with daemons, containers and drivers killed
	@pytest -m cluster_full

constraints:  ## Resolve constraints.txt anew after a change of setup.cfg; pinned versions stay
	@scripts/constraints

clean: cluster-down  ## Remove the environment, caches and build output; runs/, data/ and .cluster/ stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
