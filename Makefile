# The two commands of the README, and what people who change Parapet need beside them.
.PHONY: run test lint format requirements vendor clean
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin

run: .venv/installed
	@exec $(BIN)/python manage.py up

test: .venv/installed
	$(BIN)/python tests/chromium.py
	$(BIN)/python -m pytest tests -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy apps guardrails_site
	$(BIN)/djlint templates --check --lint --quiet
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djlint templates --reformat --quiet || true

# one stamp file: made again whenever the pinned versions change
.venv/installed: requirements.txt
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --python 3.11 .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
else
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
endif
	@touch $@

requirements:
	uv pip compile --universal --python-version 3.11 --generate-hashes --quiet requirements.in -o requirements.txt

vendor:
	cd static/vendor && npm ci --ignore-scripts && node copy.mjs && rm -rf node_modules

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
