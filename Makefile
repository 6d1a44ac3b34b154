# `make run` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: run test pooler faults soak check bench lock screenshots clean

run: $(STAMP)  ## start the application on the database of .env, or on the embedded PostgreSQL
	@PYTHONWARNINGS=ignore $(BIN)/piccolo home setup  # which would warn of the migrations it applies
	@exec $(BIN)/python main.py

test: $(STAMP)  ## run the test suite
	@$(BIN)/pytest --numprocesses auto

pooler: $(STAMP)  ## run it through PgBouncer in transaction mode
	@TEST_THROUGH=pgbouncer $(BIN)/pytest --numprocesses 4 --ignore tests/browser

faults: $(STAMP)  ## inject every fault many times
	@$(BIN)/pytest -m long --numprocesses 4 --dist worksteal -rP

soak: $(STAMP)  ## random faults for SOAK_SECONDS (1800), then look for leaks
	@$(BIN)/pytest -m soak --capture no

check: $(STAMP)  ## linters, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports

bench: $(STAMP)  ## compare with Express, Django, stock Piccolo and the floor
	$(BIN)/python -m benchmarks

screenshots: $(STAMP)  ## take the README's pictures from the running application
	$(BIN)/python -m tests.screenshots

lock: $(STAMP)  ## lock the dependencies anew
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra embedded --extra dev --output-file requirements-dev.txt

clean:  ## remove what the targets made, but for the data in .data
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(STAMP): requirements-dev.txt
	@echo "Installing into .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
