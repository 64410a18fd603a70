# `make` or `make help` lists what there is. Every target makes what it needs; nothing has to be run first.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs
SEEDS ?= 0 1 2
PYTEST_ARGS ?=
# How many workers, and what goes to which, is said in tests/support/distribution.py.
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
LINT := $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
INSTALL := $(PYTHON) scripts/install.py --venv $(VENV)
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv venv-dev venv-gpu demo real service test quick lint bench reasoning-gym verifiers evidence evidence-families docs lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## Make .venv: vLLM, Ray, TRL, PEFT and torch for CPU
	@$(INSTALL) cpu

venv-dev:
	@$(INSTALL) cpu dev service

venv-gpu: ## Make .venv for GPUs instead (VENV=... keeps both)
	@$(INSTALL) gpu dev service

demo: venv ## Train a graph, grow it, compare with baselines (4 min)
	@$(BIN)/neuromas demo --out $(OUT)

real: venv ## Get SmolLM2-135M (93 MB), train it on sums (2 to 10 minutes)
	@$(BIN)/neuromas base get smollm2-135m
	@$(BIN)/neuromas train examples/real-sums.toml --out $(OUT)

service: venv-dev ## The whole service on this machine; Ctrl-C stops it
	@$(BIN)/neuromas service $(ARGS)

# Tests that wait leave a processor to the rest, whose words come last.
test: venv-dev ## What CI runs: style, types, import contracts, all tests
	@said=$$(mktemp); status=0; \
	($(LINT)) >$$said 2>&1 & lint=$$!; \
	$(BIN)/python $(PYTEST) --durations=25 $(PYTEST_ARGS) || status=1; \
	wait $$lint || status=1; \
	cat $$said; rm $$said; \
	exit $$status

quick: venv-dev ## Style, types, import contracts and unit tests
	@$(LINT)
	@$(BIN)/python $(PYTEST) tests/unit tests/architecture -q $(PYTEST_ARGS)

lint: venv-dev
	@$(LINT)

bench: venv ## Benchmarks: ratios measured in turns in one process
	@mkdir -p $(OUT)/bench
	@$(BIN)/python -m benchmarks.joint_step --json $(OUT)/bench/joint_step.json
	@$(BIN)/python -m benchmarks.rollouts --json $(OUT)/bench
	@$(BIN)/python -m benchmarks.packed_step --json $(OUT)/bench/packed_step.json
	@$(BIN)/python -m benchmarks.sync --json $(OUT)/bench/sync.json
	@$(BIN)/python -m benchmarks.overlap --json $(OUT)/bench

reasoning-gym: ## Bring reasoning-gym into .venv (a package of it is compiled) and test the tasks made of it
	@$(INSTALL) cpu dev service reasoning-gym
	@$(BIN)/python -m pytest -q tests/unit/test_reasoning_gym.py tests/contract/test_held_apart.py -k reasoning_gym

# Installed anew each time: the checkout's own code is in it.
verifiers: ## Test examples/verifiers with its package, in an environment of its own
	@$(PYTHON) -m venv --clear $(OUT)/verifiers
	@$(OUT)/verifiers/bin/pip install -q verifiers==0.4.0 pytest .
	@PYTHONPATH=examples/verifiers $(OUT)/verifiers/bin/python -m pytest -q --noconftest -c /dev/null tests/verifiers

evidence: venv ## The README's tables, for SEEDS="0 1 2" (an hour)
	@$(BIN)/python -m benchmarks.evidence --seeds $(SEEDS) --out $(OUT)/evidence
	@$(BIN)/python -m benchmarks.growth_evidence --families chain7 --seeds $(SEEDS) --out $(OUT)/growth
	@$(BIN)/python -m benchmarks.growth_evidence --publish $(OUT)/growth

evidence-families: venv ## Families of adapters by size, and their starts (hours)
	@$(BIN)/python -m benchmarks.families_evidence --seeds $(SEEDS) --out $(OUT)/families
	@$(BIN)/python -m benchmarks.families_evidence --publish --out $(OUT)/families
	@$(BIN)/python -m benchmarks.starts_evidence --seeds $(SEEDS) --out $(OUT)/starts
	@$(BIN)/python -m benchmarks.starts_evidence --publish --out $(OUT)/starts

docs: venv-dev ## Write docs/run-spec.md from the spec's docstrings
	@$(BIN)/python scripts/spec_reference.py

lock: venv-dev ## Write constraints.txt and the images' lists from .venv
	@$(BIN)/python scripts/closure.py lock > constraints.new && mv constraints.new constraints.txt
	@$(BIN)/python scripts/hashes.py

clean: ## Remove caches and run folders, keep .venv
	@rm -rf $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv too
	@rm -rf $(VENV)
