# Every target works from a fresh clone: it makes .venv when that is missing and needs no root and no docker.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECONDS ?= 60
SEED ?= 1
JOBS ?= 3
EXAMPLES ?= 200
PORT ?= 8000
DATA_DIR ?= spice-data

# Tests and services start many processes, each of which would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak mutants check openapi docs client format serve bench chaos load fuzz requests upgrade clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "python 3.11 or newer is needed: make PYTHON=python3.11 ..."'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

setup: $(STAMP)  ## .venv with everything for development and tests

demo: $(STAMP)  ## embedded service, a tenth of the bundled rows selected for a target, files in ./demo-output
	$(BIN)/python -m examples.demo

test: $(STAMP)  ## the tests before a commit, on real PostgreSQL and Redis-protocol servers that they start themselves
	$(BIN)/python -m pytest -n $(JOBS)

soak: $(STAMP)  ## the long tests: faults, load, upgrade, trainers, every database, full counts of made-up examples
	$(BIN)/python -m pytest -n $(JOBS) -m soak --thorough

mutants: $(STAMP)  ## plant faults one at a time and print which command catches each: make mutants JOBS=2
	$(BIN)/python -m tests.mutants --jobs $(JOBS)

check: $(STAMP)  ## format, lint, types, import contracts, generated client, docs site, secrets, known weaknesses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --severity-level medium --recursive app workers spice_select
	$(BIN)/python .ci/generate_client.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python .ci/audit.py

openapi: $(STAMP)  ## write the HTTP contract to docs/openapi.json
	$(BIN)/python -m app openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

docs: $(STAMP)  ## the documentation as a site in build/site, with every page as Markdown too and llms.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

client: $(STAMP)  ## write the blocking client from the asynchronous one
	$(BIN)/python .ci/generate_client.py

format: $(STAMP)  ## rewrite the formatting and the fixable lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(STAMP)  ## the embedded service on http://127.0.0.1:8000
	$(BIN)/python -m app --port $(PORT) --data-dir $(DATA_DIR)

bench: $(STAMP)  ## every benchmark, kept in benchmarks/results.json and in the table of its page
	$(BIN)/python -m benchmarks --all --json

chaos: $(STAMP)  ## the whole service under a random nemesis: make chaos SECONDS=60 SEED=1
	$(BIN)/python -m tests.soak.chaos --seconds $(SECONDS) --seed $(SEED)

load: $(STAMP)  ## 32 clients while every process is restarted: make load SECONDS=600 SEED=1
	$(BIN)/python -m tests.soak.load --seconds $(SECONDS) --seed $(SEED)

fuzz: $(STAMP)  ## hostile files for the readers of data sets: make fuzz SECONDS=600 SEED=1
	$(BIN)/python -m tests.soak.fuzz --seconds $(SECONDS) --seed $(SEED)

requests: $(STAMP)  ## valid and broken requests made up from the contract: make requests EXAMPLES=200 SEED=1
	SPICE_TEST_EXAMPLES=$(EXAMPLES) SPICE_TEST_SEED=$(SEED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --timeout 3600 tests/service/test_contract_fuzzing.py

upgrade: $(STAMP)  ## a rolling upgrade to this checkout under jobs, from the commit before or OLDER=<revision>
	$(BIN)/python -m tests.soak.upgrade --older "$(OLDER)" --seed $(SEED)

clean:  ## remove what the targets made (not .venv)
	rm -rf demo-output spice-data build dist .pytest_cache .mypy_cache .ruff_cache
