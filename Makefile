.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PY := .venv/bin/python
SEVKIT := .venv/bin/sevkit
ARGS ?=
JOBS ?= logical

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.venv/ready: pyproject.toml requirements-dev.lock scripts/setup-venv hatch_build.py $(wildcard sevkit/memory/search/*.[ch])
	@scripts/setup-system
	@scripts/setup-venv

.PHONY: setup
setup: .venv/ready ## Make .venv and install the system packages (as root; otherwise print the command)
	@scripts/setup-system

.PHONY: demo-leak
demo-leak: setup ## The published experiment: what the host can read of a guest, with and without encryption (ARGS=--quick builds no emulator)
	@scripts/demo-leak $(ARGS)

.PHONY: deb
deb: ## The Debian package, checked with lintian, in dist/
	@packaging/deb dist

.PHONY: new-user
new-user: ## A new user's first steps in a fresh container: wheels, Debian package, action (needs an engine; minutes)
	@scripts/new-user $(ARGS)

.PHONY: emulator
emulator: ## Build the memory-encrypting QEMU (minutes, once; then both sides of the demo are real guests)
	@emulator/build.sh

.PHONY: test
test: setup ## All tests, real guests included where they can run (JOBS=1 for one at a time; test-containers: those of the images)
	@$(PY) -m pytest --ignore=tests/container -n $(JOBS) --dist loadfile --max-worker-restart=0 $(ARGS)

.PHONY: test-containers
test-containers: setup ## The container images, asserted on from outside, and the tests again inside them
	@scripts/test-containers $(ARGS)

.PHONY: faults
faults: setup ## Every fault on every main path, real guests included (ARGS=--regenerate writes the table in docs/)
	@SEVKIT_TEST_FAULTS=all $(PY) -m pytest tests/integration/test_faults.py tests/integration/test_trust.py $(ARGS)

.PHONY: fuzz
fuzz: setup ## Fuzz every reader of foreign bytes (ARGS="--seconds 600 core" for one, longer)
	@$(PY) -m tests.fuzz $(ARGS)

.PHONY: fuzz-million
fuzz-million: setup ## A million inputs per reader of reports, certificates, policies, IGVM and firmware (ARGS="--seed 7 igvm")
	@$(PY) -m tests.fuzz.soak $(ARGS)

.PHONY: fuzz-regex
fuzz-regex: setup ## A million random expressions and texts: the scanner against Python's re (ARGS="PAIRS SEED")
	@$(PY) -m tests.property.regex_fuzz $(or $(ARGS),1000000)

.PHONY: faults-verdict
faults-verdict: setup ## Leak experiments with random faults, simulated: no false `protected` (ARGS="CASES SEED")
	@$(PY) -m tests.property.verdict_faults $(or $(ARGS),100000)

.PHONY: check
check: .venv/ready ## Style, types, dead code and the import contracts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@scripts/dead-code
	@.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

.PHONY: docs
docs: .venv/ready ## The documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet
	@echo build/site/index.html

.PHONY: bench-scan
bench-scan: setup ## The memory scanner next to gcore, grep, rg and memchr, side by side
	@scripts/setup-system ripgrep
	@$(PY) -m benchmarks.scan $(ARGS)

.PHONY: probe
probe: .venv/ready ## What this machine can do
	@$(SEVKIT) probe $(ARGS)

.PHONY: lock
lock: ## Resolve the development dependencies anew (hashes, no addresses)
	@scripts/lock

.PHONY: clean
clean: ## Remove what was built here (not the user's cache)
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
