# Each target sets up what it needs; see `make help`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CUDA ?=
export PYTHONDONTWRITEBYTECODE := 1

# Where cargo puts its builds, whoever has moved it.
target = $$($(CARGO) metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

.PHONY: help
help: ## Say what each target does
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: libtorch ## Build, and run the main job on built-in data
	$(CARGO) build --release --bin rankfold
	@scripts/demo.sh "$(target)/release/rankfold" models/shapes-resnet20/model.safetensors "$(target)/demo"

# Tests run side by side, and threads that wait by spinning would take the cores from each other.
test test-interop: export OMP_WAIT_POLICY := passive

.PHONY: test
test: libtorch ## Run all tests
	@scripts/say-data.sh
	python3 -m unittest discover -s scripts
	$(CARGO) test --workspace --no-fail-fast

.PHONY: lint
lint: libtorch ## Check the format, run clippy and rustdoc, warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

.PHONY: deny
deny: ## Check licences, versions and sources of what is depended on
	@program=$$(scripts/tool.py cargo-deny) && "$$program" --locked check licenses bans sources

.PHONY: docs
docs: libtorch ## Write docs/commands.md anew
	$(CARGO) run --bin rankfold -- man --markdown docs/commands.md

.PHONY: test-interop
test-interop: libtorch ## Compare with the real PyTorch and ONNX Runtime, look at the report: the small set
	@scripts/system.sh browser
	@scripts/say-data.sh
	$(CARGO) build --workspace --bins --tests
	RANKFOLD_BIN="$(target)/debug" "$$(scripts/venv.py)" tests/interop/run.py

.PHONY: interop-full
interop-full: libtorch ## The same with many more networks; long
	@scripts/system.sh browser
	@scripts/say-data.sh
	$(CARGO) build --release --workspace --bins
	RANKFOLD_BIN="$(target)/release" RANKFOLD_INTEROP=full "$$(scripts/venv.py)" tests/interop/run.py

.PHONY: bench
bench: libtorch ## Time Rankfold by itself, and how much faster compressed networks are
	$(CARGO) bench --workspace
	$(CARGO) build --release --workspace --bins
	python3 benches/speed.py "$(target)/release/rankfold"

.PHONY: results
results: libtorch ## Run every experiment that has no numbers yet (many hours, goes on where it stopped), write docs/results.md
	$(CARGO) build --release --workspace --bins
	@bin="$(target)/release/rankfold"; set -x; \
	python3 benches/no_training.py "$$bin"; \
	python3 benches/no_training.py "$$bin" --ablation; \
	python3 benches/selection.py "$$bin"; \
	python3 benches/selection.py "$$bin" --train "--distill 200"; \
	for experiment in order first_layer start freezing; do python3 "benches/paper/$$experiment.py" "$$bin"; done; \
	python3 benches/finetune.py "$$bin"; \
	python3 benches/lightlayers.py "$$bin"; \
	python3 benches/alternatives.py "$$bin"; \
	python3 benches/prune.py "$$bin"
	python3 benches/results.py
	python3 benches/readme.py

.PHONY: mutants
mutants: libtorch ## Change the decompose and compress crates in 300 places, each by itself, and see whether tests notice (goes on where it stopped)
	@"$$(scripts/venv.py)" benches/mutants.py

.PHONY: bench-peers
bench-peers: libtorch ## Time Rankfold and the Python peers on the same work, in one run
	$(CARGO) build --release --workspace --bins
	@python=$$(scripts/venv.py); bin="$(target)/release"; for peer in benches/peers/[!_]*.py; do RANKFOLD_BIN="$$bin" "$$python" "$$peer"; done

.PHONY: libtorch
libtorch: ## Put libtorch where cargo finds it (CUDA=1: its CUDA half too; LIBTORCH=DIR: one that is there)
	@scripts/system.sh
	@python3 scripts/libtorch.py $(if $(filter-out 0,$(CUDA)),--cuda)

.PHONY: venv
venv: ## Make the Python environment of the interop tests and the peers, print its Python
	@scripts/venv.py

.PHONY: test-setup
test-setup: ## Test the set-up with real downloads, in a cache of its own; 0.5 GB a few times
	RANKFOLD_TEST_DOWNLOADS=1 python3 -m unittest discover -s scripts

PREFIX ?= $(HOME)/.local
share = $(PREFIX)/share

.PHONY: install
install: libtorch ## Install the command, its manual pages and completions (PREFIX=~/.local)
	$(CARGO) build --release --locked --bin rankfold
	install -D "$(target)/release/rankfold" "$(PREFIX)/bin/rankfold"
	"$(PREFIX)/bin/rankfold" man "$(share)/man/man1"
	@mkdir -p "$(share)/bash-completion/completions" "$(share)/zsh/site-functions" "$(share)/fish/vendor_completions.d"
	"$(PREFIX)/bin/rankfold" completions bash > "$(share)/bash-completion/completions/rankfold"
	"$(PREFIX)/bin/rankfold" completions zsh > "$(share)/zsh/site-functions/_rankfold"
	"$(PREFIX)/bin/rankfold" completions fish > "$(share)/fish/vendor_completions.d/rankfold.fish"

.PHONY: bundle
bundle: libtorch ## A folder that runs on another x86-64 machine that has libtorch 2.11
	scripts/bundle.sh
