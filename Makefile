# Everything a person needs: `make run`, `make test`. Each target installs what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
.DEFAULT_GOAL := help
.PHONY: env help install run test lint bench clean servers

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: $(UV) requirements.lock pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed requirements-dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements-dev.lock
	@touch $@

install: $(VENV)/.installed ## the virtual environment .venv with the ledger command

run: install ## a sample org's usage flows through the ledger before your eyes, then it keeps serving
	@$(BIN)/python -m examples.demo

env: ## secrets for docker-compose in .env, made once
	@test -e .env || (umask 077; $(PYTHON) -c "import secrets; print('\n'.join(f'{name}={secrets.token_urlsafe(24)}' for name in \
		('POSTGRES_PASSWORD', 'LEDGER_READER_PASSWORD', 'LEDGER_ADMIN_TOKEN', 'GRAFANA_ADMIN_PASSWORD')))" > .env)
	@echo ".env holds the secrets; now: docker compose up -d"

servers: # real PostgreSQL, Kafka and Prometheus for the tests, where neither the environment nor Docker has one
	@sh tests/servers/install.sh

lint: $(VENV)/.tested ## style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

test: lint servers ## everything, on real servers
	@$(BIN)/python -m pytest

bench: $(VENV)/.tested ## the published figures: a table, and bench.json
	@$(BIN)/python -m benchmarks

lock: $(UV) # after a change of pyproject.toml
	@$(UV) pip compile --quiet --no-emit-index-url --no-header --universal pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --no-emit-index-url --no-header --universal pyproject.toml --group dev -o requirements-dev.lock

clean: ## removes what was installed and built
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench.json
