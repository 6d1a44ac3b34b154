# `make run` and `make test` do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
# What running needs, and what developing needs, which includes it.
DEV := .venv/.installed-dev
RUN := $(firstword $(wildcard $(DEV)) .venv/.installed-run)
# Where this is set, each process compiles all that it imports anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: run test pooler faults soak check bench lock screenshots docs clean

run: $(RUN)  ## start the application on the database of .env, or on the embedded PostgreSQL
	@PYTHONWARNINGS=ignore $(BIN)/piccolo home setup  # which would warn of the migrations it applies
	@exec $(BIN)/python main.py

test: $(DEV)  ## run the test suite; it waits more than it computes
	@$(BIN)/pytest --numprocesses 4 --dist worksteal

pooler: $(DEV)  ## run it through PgBouncer in transaction mode
	@TEST_THROUGH=pgbouncer $(BIN)/pytest --numprocesses 4 --ignore tests/browser

faults: $(DEV)  ## inject every fault many times
	@$(BIN)/pytest -m long --numprocesses 4 --dist worksteal -rP

soak: $(DEV)  ## random faults for SOAK_SECONDS (1800), then look for leaks
	@$(BIN)/pytest -m soak --capture no

check: $(DEV)  ## linters, types, import direction, what migrations would block
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/squawk --no-error-on-unmatched-pattern */sql/*.sql

bench: $(DEV)  ## compare with Express, Django, stock Piccolo and the floor
	$(BIN)/python -m benchmarks

screenshots: $(DEV)  ## take the README's pictures from the running application
	$(BIN)/python -m tests.screenshots

docs: $(DEV)  ## make the parts of the documentation that come from the code
	$(BIN)/python -m tests.generated

lock: $(DEV)  ## lock the dependencies anew
	$(LOCK) pyproject.toml --output-file requirements.txt
	$(LOCK) pyproject.toml --extra embedded --output-file requirements-run.txt
	$(LOCK) pyproject.toml --extra embedded --extra archive --extra otel --extra dev \
		--output-file requirements-dev.txt
	echo uv | $(LOCK) - --constraints requirements-dev.txt --output-file requirements-uv.txt

# The commands of this checkout, from any folder.
$(BIN)/groundwork:
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m home "$$@"\n' \
		"$(CURDIR)" "$(abspath $(BIN))/python" > $@
	@chmod +x $@

clean:  ## remove what the targets made, but for the data in .data
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# uv shows its progress on a terminal. Without --no-deps pip would look for newer versions of what is
# locked, and refuse them.
.venv/.installed-%: requirements-%.txt requirements-uv.txt
	@echo "Installing into .venv (once) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		--requirement requirements-uv.txt
	@quiet=--quiet; [ ! -t 2 ] || quiet=; \
		$(BIN)/uv pip install $$quiet --python $(BIN)/python --no-deps --require-hashes \
		--requirements $<
	@$(MAKE) --no-print-directory $(BIN)/groundwork
	@touch $@
