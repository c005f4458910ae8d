# The two commands of the README, and what people who change Parapet need beside them.
.PHONY: run test lint format requirements vendor clean
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --quiet
# what is imported is compiled, once, whatever the machine's default; most packages never are
export PYTHONDONTWRITEBYTECODE :=
# each file names all that it needs
ifdef UV
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes
endif

run: .venv/installed
	@exec $(BIN)/python manage.py up

test: .venv/checkable
	$(BIN)/python tests/chromium.py
	$(BIN)/python -m pytest tests -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: .venv/checkable
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy apps guardrails_site
	$(BIN)/djlint templates --check --lint --quiet
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: .venv/checkable
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djlint templates --reformat --quiet || true

# two stamp files, each made again whenever its pinned versions change; what only tests and linters
# need is installed by them, so that the first page does not wait for it
.venv/installed: requirements.txt
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --python 3.11 .venv
else
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
endif
	@$(INSTALL) -r $<
	@touch $@

.venv/checkable: requirements-dev.txt .venv/installed
	@$(INSTALL) -r $<
	@touch $@

requirements:
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt

vendor:
	cd static/vendor && npm ci --ignore-scripts && node copy.mjs && rm -rf node_modules

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
