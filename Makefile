# Every verb a person or CI needs. Bare `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo up test lint format bench torture verify terraform openapi snapshot prices costs drill deploy lock ready

PYTHON ?= python3
BIN := .local/venv/bin
RUN := PYTHONPATH=.:functions $(BIN)/python -m

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ready ## the whole loop on real parts: register, buy credits, run a session, be charged
	@$(RUN) infra.demo

up: ready ## serve the whole cloud on this machine until Ctrl-C
	@$(RUN) infra.local.up

# Both always run, so that one look shows everything that is wrong.
test: ready ## lint and all tests; fails when either does
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(RUN) pytest -n 2 || status=1; \
	exit $$status

lint: ready ## ruff, mypy and sqlfluff
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	MYPYPATH=.:functions $(BIN)/mypy functions infra tests || status=1; \
	$(BIN)/sqlfluff lint supabase || status=1; \
	exit $$status

format: ready ## let ruff and sqlfluff fix what they can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/sqlfluff fix --quiet supabase

bench: ready ## measure calls, sweeps, reads and imports on this machine
	@$(RUN) infra.bench

torture: ready ## kill, cut and storm for MINUTES=10, then prove that no money was lost or made
	@$(RUN) infra.torture

verify: ready ## recompute every wallet of the running stack from its transfers
	@$(RUN) infra.verify

terraform: ready ## check terraform/: format, schema, its own tests, checkov, and that it fits the code
	@$(RUN) pytest -rs tests/deployment/test_terraform.py

openapi: ready ## write openapi.json from the code
	@$(RUN) infra.openapi

snapshot: ready ## write supabase/schema.snapshot.sql from the migrations
	@$(RUN) infra.snapshot

prices: ready ## load providers' prices of models into the running stack; shows what changes
	@$(RUN) infra.prices

costs: ready ## write infra/costs.md from the list prices and what was measured
	@$(RUN) infra.costs

drill: ready ## restore a backup to the second, beside the database, and prove that the books agree
	@$(RUN) infra.restore_drill

deploy: ready ## bring this into the cloud: ENVIRONMENT=staging; DRY_RUN=1 only prints each step
	@PATH="$$(dirname .local/npm/node_modules/@supabase/cli-*/bin/supabase):$$PATH" \
		infra/deploy.sh $(ENVIRONMENT) $(if $(DRY_RUN),--dry-run)

lock: ready ## pin and hash the requirements that pyproject.toml names
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header \
		--output-file functions/requirements.txt pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header \
		--group dev --output-file infra/requirements.txt pyproject.toml

# Older Pythons cannot even read the bootstrap, so the version is asked here.
ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'faregate: Python 3.11 or newer is needed; name one with `make PYTHON=python3.12 …`.' >&2; \
		exit 1; }
	@$(PYTHON) -m infra.local.bootstrap
