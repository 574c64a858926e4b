PYTHON ?= python3
BIN := .venv/bin
# Bytecode is kept whatever the environment says: without it every worker and every process compiles anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist worksteal
READY := .venv/.installed
CHECKED := $(addprefix tests/unit/,contracts memories models ops)

.PHONY: demo test test-all check bench docs dist release-check clean

demo: $(READY)
	$(BIN)/mnemoscope demo

# Shapes are checked at every call where the mathematics is; elsewhere that doubles the time, and is left to `test-all`.
test: $(READY)
	$(PYTEST) -m "not long and not gpu" $(CHECKED)
	JAXTYPING_DISABLE=1 $(PYTEST) -m "not long and not gpu" $(addprefix --ignore=,$(CHECKED))

test-all: $(READY)
	$(PYTEST)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wheel and sdist in dist/, looked into and used in an environment of their own. `make release-check TAG=v0.2.0`.
dist: $(READY)
	PYTHON=$(BIN)/python .ci/wheel

release-check: $(READY)
	$(BIN)/python .ci/release_check.py $(TAG)

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The environment is rebuilt whenever its definition changes; constraints.txt pins the CPU build of torch.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
