# Every target sets up what it needs: system packages (through apt when root), a virtual environment, pinned packages.
PYTHON ?= $(shell sh tools/find-python)
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest
WORKERS ?= 2

.PHONY: help demo test test-integration lint types floors schema check bench lock clean
help:
	@echo "make demo    run the main job: a sealed bottle, two SSH servers, what works and what is refused"
	@echo "make test    run all tests"
	@echo "make check   lint, types, import floors, generated files"
	@echo "make bench   measure against a direct connection, socat, HAProxy and bare bubblewrap"
	@echo "make lock    pin the Python packages anew"

$(VENV)/.ready: requirements.lock pyproject.toml tools/find-python
	sh tools/install-system-packages run
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/.ready
	@$(BIN)/claude-bottle demo

test: $(VENV)/.ready
	sh tools/install-system-packages test
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not heavy" tests
	$(PYTEST) -m heavy tests

test-integration: $(VENV)/.ready
	sh tools/install-system-packages test
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not heavy" tests/contract tests/integration

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

floors: $(VENV)/.ready
	$(BIN)/lint-imports

check: lint types floors

schema: $(VENV)/.ready
	$(BIN)/python -m claude_bottle.manifest.schema --write

bench: $(VENV)/.ready
	sh tools/install-system-packages bench
	$(BIN)/python -m bench

lock: $(VENV)/.ready
	$(BIN)/pip-compile --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
