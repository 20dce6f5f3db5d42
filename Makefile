# Needs only make and Python 3.11 to 3.13; nothing is compiled. `make` alone lists the targets.

PYTHON ?= python3
VENV   ?= .venv
# Further arguments of the command behind a target: make test ARGS="-k container"
ARGS   ?=
# Processes that run the tests without a broker, and those with one, each with its own: more than two cores,
# since many tests wait.
JOBS   ?= 3
BROKERS ?= 2

BIN     := $(VENV)/bin
# Stamps live in the environment they describe, so removing it removes them.
RUNTIME := $(VENV)/.installed-runtime
DEV     := $(VENV)/.installed-dev
BENCH   := $(VENV)/.installed-bench
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary -c constraints.txt

# The tests start hundreds of commands: where nothing may write bytecode, each would compile all sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# Both kinds of tests use the environment, which is made once before them.
.PHONY: help setup demo test test-broker test-others check bench format clean kafka

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV) ## Make .venv with everything for use and development

demo: $(RUNTIME) ## Run the whole loop in this terminal: clicks, log, learner, server, scores
	$(BIN)/ftrl demo $(ARGS)

kafka: $(RUNTIME) ## Start a real Kafka broker (Java 17, Maven) until Ctrl-C and print its address
	@$(BIN)/python -m bench.kafka_broker $(ARGS)

test: $(DEV) ## Run the tests; those with a broker, which mostly wait, beside all others
	@$(MAKE) --no-print-directory -j2 test-broker test-others

# 5: no test is selected, as when ARGS names some of the other kind. What the broker's tests say is kept
# until they are through, so that two reports do not run into each other.
test-broker: $(DEV)
	@said=$$(mktemp); $(BIN)/pytest -n $(BROKERS) --dist loadfile -m kafka $(ARGS) >$$said 2>&1; status=$$?; cat $$said; rm -f $$said; \
		[ $$status -eq 0 ] || [ $$status -eq 5 ]

test-others: $(DEV)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m 'not kafka' $(ARGS) || [ $$? -eq 5 ]

check: $(DEV) ## Lint, check the format, the types and the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH) ## Measure speed on this machine beside the installed rivals
	$(BIN)/ftrl bench $(ARGS)

format: $(DEV) ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## Remove everything made here except .venv
	rm -rf build dist *.egg-info .demo
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11 to 3.13; name one that is: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) ...'
	@$(INSTALL) -e '.[all]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) ...'
	@$(INSTALL) -e '.[all,dev]'
	@touch $(RUNTIME) $@

$(BENCH): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing into $(VENV) ...'
	@$(INSTALL) -e '.[all,bench]'
	@touch $(RUNTIME) $@
