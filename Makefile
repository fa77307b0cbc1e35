# Everything that a person does with this checkout. `make` lists it.
BIN := .venv/bin
JOBS ?= 4
ARGS ?= # of the demo, such as ARGS="--port 0" where 8025 is taken
export PYTHONDONTWRITEBYTECODE := # where it is set, every daemon of a test would compile the program anew
.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-oldest test-others test-pooled test-host fuzz soak faults faults-short faults-seeds faults-all canaries canaries-once check bench bench-once schema docs clean

help: ## List what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: ## Set everything up and watch a thousand emails reach a local inbox
	@scripts/bootstrap demo
	@$(BIN)/outboxd demo $(ARGS)

test: ## Set everything up and run the whole suite on real Postgres
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --pg-version 18 --durations=15
	@scripts/test-oldest $(BIN) $(JOBS)

test-others: ## Run the quick layers, and a demo, on every other Python from 3.11 to 3.14 that is here
	@scripts/bootstrap dev
	@scripts/test-others $(BIN) $(JOBS)

test-host: ## Run the tests that need programs of the host (Node, pgbouncer, …); names what is missing
	@scripts/bootstrap dev
	@$(BIN)/python tests/host/needs.py || true
	$(BIN)/python -m pytest -n $(JOBS) --pg-version 18 -m host tests/host

test-oldest: ## Run the tests of db and path on PostgreSQL 15, the slow ones too but not the long
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -n $(JOBS) --pg local --pg-version 15 tests/db tests/path

test-pooled: ## Run the tests of the path through pgbouncer, the slow ones too but not the long
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -n $(JOBS) --pg-version 18 tests/path --via-pgbouncer

test-long: ## Run what takes minutes: outages, stops, kills, crowds and plans at full size, a soak
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -m long -s --pg-version 18

fuzz: ## Try a hundred times as many inputs of strangers as the suite does
	@scripts/bootstrap dev
	OUTBOXD_FUZZ=100 $(BIN)/python -m pytest -n $(JOBS) tests/fuzz --pg-version 18

soak: ## Run a daemon at half load for twenty minutes, and watch what it holds
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -m long -s tests/path/test_soak.py --pg-version 18

faults-short: ## Kills, crashes and every kind of fault for two minutes, then judge the history; SEED=N repeats one
	@scripts/bootstrap dev
	$(BIN)/python -m tests.faults --profile short $(if $(SEED),--seed $(SEED))

faults-seeds: ## Twenty storms of faults-short in a row, each with a seed of its own, from SEED (1) on
	@scripts/bootstrap dev
	for seed in $$(seq $(or $(SEED),1) $$(($(or $(SEED),1) + 19))); do $(BIN)/python -m tests.faults --profile short --seed $$seed || exit 1; done

faults: ## The same in full: a thousand kills over fifty thousand emails, fifty crashes of Postgres; then standbys promoted, disks full, clocks that step, a pooler, an upgrade, suspects
	@scripts/bootstrap dev
	for profile in full standby tail held disk clock pooler upgrade suspects; do $(BIN)/python -m tests.faults --profile $$profile $(if $(SEED),--seed $(SEED)) || exit 1; done

faults-all: ## Every fault at three intensities, then all of `faults`, and zombies; takes more than an hour
	@scripts/bootstrap dev
	for level in 1 2 3; do $(BIN)/python -m tests.faults --profile short --level $$level $(if $(SEED),--seed $(SEED)) || exit 1; done
	$(MAKE) faults
	$(BIN)/python -m tests.faults --profile zombies $(if $(SEED),--seed $(SEED))

canaries: ## Plant bugs and take out rules, one at a time, and see each caught; and nothing caught where none is planted
	@scripts/bootstrap dev
	$(BIN)/python -m tests.faults.canaries $(if $(SEED),--seed $(SEED))

canaries-once: ## Two of the bugs, in less than a minute
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -m faults tests/faults/canaries -q

check: ## Formatting, lint, types, import layers, migrations
	@scripts/bootstrap dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/lint_migrations.py

bench: ## Run the benchmarks; raw figures go to tests/bench/out
	@scripts/bootstrap dev
	$(BIN)/python -m pytest -m bench tests/bench -s -p no:randomly

bench-once: ## Run each benchmark once, shortened, so that it cannot rot
	@scripts/bootstrap dev
	OUTBOXD_BENCH_SHORT=1 $(BIN)/python -m pytest -m bench tests/bench -s -p no:randomly

schema: ## Draw sql/schema.sql again
	@scripts/bootstrap dev
	$(BIN)/python scripts/schema.py > sql/schema.sql

docs: ## Write docs/configuration.md again
	@scripts/bootstrap dev
	$(BIN)/python scripts/configuration_docs.py > docs/configuration.md

clean: ## Remove what was built
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/bench/out
