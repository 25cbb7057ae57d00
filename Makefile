# Every command of the project. `make help` lists them; CI calls nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUST   := Cargo.toml Cargo.lock $(shell find src -name '*.rs')

.DEFAULT_GOAL := help
.PHONY: help install demo test test-full lint format bench bench-check chromium valgrind docs clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

$(BIN)/maturin:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet 'maturin>=1.9,<2'

$(VENV)/.built: $(BIN)/maturin pyproject.toml $(RUST)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --extras report,score
	@touch $@

$(VENV)/.tools: $(BIN)/maturin pyproject.toml
	$(BIN)/python -m pip install --quiet --group test --group lint
	@touch $@

install: $(VENV)/.built ## Build the extension and install the package into .venv

demo: $(VENV)/.built ## Fetch a real model, quantise it, and score how far its distribution moved
	-$(BIN)/python -m pip install --quiet --requirement examples/requirements.txt
	$(BIN)/python examples/demo.py --out demo

test: $(VENV)/.built $(VENV)/.tools ## Run the tests (under ten minutes on two cores)
	-@$(MAKE) --no-print-directory chromium
	cargo test
	$(BIN)/python -m pytest

test-full: $(VENV)/.built $(VENV)/.tools ## Run every test, with the exhaustive sweeps
	-@$(MAKE) --no-print-directory chromium
	cargo test --release -- --include-ignored
	KULLBACK_TEST_PROFILE=slow $(BIN)/python -m pytest

lint: $(VENV)/.built $(VENV)/.tools ## Check format, lints, types and stubs
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	cargo clippy --features python,abi3 -- --deny warnings
	PYO3_CONFIG_FILE=$(CURDIR)/.ci/free-threaded.txt cargo check --features python --target-dir target/free-threaded
	if rustc --print target-libdir --target aarch64-unknown-linux-gnu | xargs test -d; then cargo check --target aarch64-unknown-linux-gnu; fi
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd python && ../$(BIN)/python -m mypy.stubtest kullback._core._native --mypy-config-file ../pyproject.toml

format: $(VENV)/.tools ## Format the Rust and Python sources
	cargo fmt
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.built ## Measure against peers and the machine's limits (see benches/README.md)
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benches/compare_peers.py
	$(BIN)/python benches/accuracy.py

chromium: # for the tests of the report, which are skipped without a browser; Debian and its kin, as root
	command -v chromium > /dev/null || { apt-get update --quiet && apt-get install --yes --quiet chromium; }

valgrind: # for bench-check; Debian and its kin, as root
	command -v valgrind > /dev/null || { apt-get update --quiet && apt-get install --yes --quiet valgrind; }

bench-check: ## Count the kernels' instructions and compare with those on record (needs valgrind)
	$(PYTHON) benches/instructions.py

docs: $(VENV)/.tools ## Build the Rust documentation
	RUSTDOCFLAGS='--deny warnings' cargo doc --no-deps

clean: ## Remove everything built
	cargo clean
	rm -rf $(VENV) demo dist
