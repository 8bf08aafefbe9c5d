# What one does with this checkout. Each target sets up what it needs first; compiled things go to the cache, outside the checkout.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
IN := source scripts/environment.sh &&

# Tests, demo and development share one build: `--examples` makes cargo choose the features that tests get, so nothing compiles twice.
BUILD := cargo build --locked --workspace --lib --bins --examples

.PHONY: help setup setup-build setup-test setup-lint build demo test bench fuzz lint fmt fmt-check clippy alone deny walls generated proto-lint scripts-lint kills clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: setup-lint ## Install all that building, testing and checking need (asks first; YES=1 goes ahead)

setup-build setup-test setup-lint:
	@scripts/setup.sh $(@:setup-%=%)

build: setup-build ## Build all crates and the herdbook binary (dev profile)
	@$(IN) $(BUILD)
	@$(IN) echo "built $$CARGO_TARGET_DIR/debug/herdbook"

demo: setup-build ## Show a cluster at work, its server lost and restored (KEEP=1 leaves it running)
	@$(IN) $(BUILD)
	@$(IN) exec "$$CARGO_TARGET_DIR/debug/herdbook" demo $(if $(filter-out 0,$(KEEP)),--keep)

test: setup-test ## Run all tests: Rust, documentation, Python example, chart
	@$(IN) $(BUILD)
	@$(IN) scripts/test.sh

kills: setup-test ## Kill a store, a coordinator and replicas under load 1,000 times each, and compare (KILLS=n for others)
	@$(IN) HERDBOOK_TEST_KILLS=$(or $(KILLS),1000) cargo nextest run --locked -p herdbook -p herdbook-store -E 'binary(kills) + binary(kill)' --no-capture

bench: setup-build ## Run the benchmarks (release profile; BENCH=name picks)
	@$(IN) cargo bench --locked --workspace --benches -- $(BENCH)

fuzz: setup-build ## Feed every decoder what nobody wrote (SECONDS=60 in all, TARGET=name picks)
	@$(IN) scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

lint: fmt-check clippy alone deny walls generated proto-lint scripts-lint ## Run all checks that are not tests

fmt: setup-lint ## Format the Rust code
	@$(IN) cargo fmt --all

fmt-check: setup-lint ## Is the Rust code formatted?
	@$(IN) cargo fmt --all --check

clippy: setup-lint ## Lint the Rust code, warnings are errors
	@$(IN) cargo clippy --locked --workspace --all-targets -- -D warnings

alone: setup-lint ## Does each crate compile without what its neighbours switch on?
	@$(IN) crates=$$(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[].name'); \
	  for crate in $$crates; do echo "alone: $$crate"; cargo check --locked --quiet -p "$$crate"; done

deny: setup-lint ## Licences, bans and sources of the dependencies
	@$(IN) cargo fetch --locked --quiet && cargo deny --offline check --allow unused-wrapper --deny warnings licenses bans sources

walls: setup-lint ## Do the arrows between the crates only go down?
	@scripts/walls.sh

generated: setup-lint ## Is the generated protobuf code up to date?
	@$(IN) cargo build --locked --quiet --workspace --example generate
	@$(IN) CARGO_MANIFEST_DIR="$$PWD/proto" "$$CARGO_TARGET_DIR/debug/examples/generate" --check

proto-lint: setup-lint ## Lint the protobuf definitions
	@$(IN) buf lint

scripts-lint: setup-lint ## Lint the shell scripts and the Containerfile
	@$(IN) shellcheck -x .ci/run scripts/*.sh
	@$(IN) hadolint Containerfile

clean: ## Remove what was compiled (ccache and tools stay)
	@$(IN) rm -rf "$$CARGO_TARGET_DIR"

distclean: ## Remove the whole cache
	@$(IN) rm -rf "$$CARGO_TARGET_DIR" "$$HERDBOOK_CACHE"
