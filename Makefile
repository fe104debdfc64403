# Each target sets up what it needs; see `make help`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CUDA ?=
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help
help: ## Say what each target does
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: libtorch
libtorch: ## Put libtorch where cargo finds it (CUDA=1: its CUDA half too; LIBTORCH=DIR: one that is there)
	@scripts/system.sh
	@python3 scripts/libtorch.py $(if $(filter-out 0,$(CUDA)),--cuda)

.PHONY: test
test: libtorch ## Run all tests
	@scripts/say-data.sh
	$(CARGO) test --workspace --no-fail-fast

.PHONY: lint
lint: libtorch ## Check the format and run clippy, warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
