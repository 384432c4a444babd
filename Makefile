# `make demo` and `make test` set everything up themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# a file's tests share a process; tests/clusters.py says which files come first
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-quick test-slow lint format bench lock clean

setup: $(STAMP)

# torch is installed first and on its own: the CPU build must not pull in CUDA packages.
$(STAMP): requirements.lock requirements-data.lock pyproject.toml
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $$(grep '^torch==' requirements.lock)
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --require-hashes -r requirements-data.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@rm -rf runs/demo
	$(BIN)/prunepeft search --config experiments/demo.yaml --output runs/demo --no-pool

test: $(STAMP)
	$(PYTEST)

test-quick: $(STAMP)
	$(PYTEST) -m "not gpu and not slow and not ray and not system"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

lock: $(STAMP)
	@{ sed -n '1p' requirements.lock; \
	   $(BIN)/python -m pip list --format freeze --exclude pip --exclude wheel --exclude prunepeft-ray \
	     $$(sed -n 's/^\([a-z0-9-]*\)==.*/--exclude \1/p' requirements-data.lock) | sed 's/+cpu$$//'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) runs .mypy_cache .pytest_cache .ruff_cache
