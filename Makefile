# Milepost. `make demo` shows the main job; `make test` is the gate.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/milepost/target
SHELL := /bin/bash
MILEPOST := $(CARGO_TARGET_DIR)/debug/milepost
# All features that need no GPU.
FEATURES := --features gpu-training

.PHONY: demo test lint build setup test-stalls test-browser test-swap test-daemon bench bench-learner golden seed deny cuda

## Installs what is missing, builds what running a task needs, and runs one unseen task of each level live.
demo:
	@scripts/demo.sh "$(MILEPOST)"

## The gate: formatting, clippy with warnings as errors, all tests, those that need Chromium included. Clippy is the compiler of
## the workspace here, so that linting does not check all dependencies a second time; CLIPPY_ARGS is what `cargo clippy -- -D warnings` sets.
test test-stalls: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test test-stalls: export CLIPPY_ARGS := -Dwarnings__CLIPPY_HACKERY__
test: setup
	@scripts/stage.sh "format" cargo fmt --all --check
	@scripts/stage.sh "build and clippy" cargo build --workspace --all-targets --locked $(FEATURES)
	@scripts/stage.sh "tests" cargo test --workspace --locked --no-fail-fast $(FEATURES)
	@scripts/stage.sh "build without features" cargo build --locked --no-default-features --bin milepost

## All tests, while their processes are stopped now and then for up to two seconds: none may judge by how soon something happens.
test-stalls: setup
	@scripts/stalls.py cargo test --workspace --locked --no-fail-fast $(FEATURES)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(FEATURES) -- -D warnings
	cargo clippy --locked --no-default-features --bin milepost -- -D warnings

## Builds everything that runs on this machine: daemon, MCP, mistralrs, and training in candle's operations.
build: setup
	@scripts/stage.sh "build" cargo build --locked $(FEATURES) --bin milepost

## Chromium and ChromeDriver, where they are missing.
setup:
	@scripts/setup.sh
	@scripts/clone.sh

## Every row of the suite's tables at its full size, in real Chromium (hours on two cores).
test-browser: build
	@scripts/tables.sh "$(MILEPOST)"

## Swaps under load and sabotaged adapters at their full number: 50 swaps, four adapters of each kind and four worse policies.
test-swap: setup
	SWAPS=50 TRIES=4 cargo test --workspace --locked --test engine swaps -- --nocapture
	TRIES=4 cargo test --workspace --locked --test whole a_worse_policy -- --nocapture

## Every row of the daemon's tables at its full size; writes target/test/daemon.json (hours on two cores).
test-daemon: build
	@scripts/test_daemon.sh

## Side-by-side benchmarks.
bench: build
	@scripts/bench.sh "$(MILEPOST)"

## The learner against PyTorch, side by side; writes target/bench/learner.json.
bench-learner:
	@benches/learner/run.py

## Remakes the golden files of the learner's tests from PyPI's packages.
golden:
	@learners/tests/golden/make.sh

## Trains the seed model again (about half an hour on two cores).
seed: build
	@models/seed/train.sh "$(MILEPOST)"

## Licences, bans and sources of all dependencies (needs cargo-deny).
deny:
	cargo deny --all-features check licenses bans sources

## A binary for NVIDIA GPUs, in target/cuda; needs no GPU and no CUDA, but PyPI.
cuda:
	@scripts/cuda.sh
