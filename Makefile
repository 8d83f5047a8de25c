# Everything a person needs, each in one word. `make` alone lists it.

.DEFAULT_GOAL := help
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # importing hypothesis afresh each time costs a second
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help demo demo-memory simulate test setup-tests lint unit redis process deploy cluster explore chaos bench bench-queue bench-failover bench-memory bench-plan clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: ## a fleet at work on files of this machine: index, thumbnails, mails; ends by itself
	@.ci/venv embedded,demo
	@$(BIN)/python deploy/demo/run.py

demo-memory: ## what a slot of the demo costs, with and without gc.freeze
	@.ci/venv embedded,demo
	@$(BIN)/python deploy/demo/memory.py

simulate: ## a load through the manager's planner in simulated time; ARGS="losses --servers 6 --chart losses.html"
	@.ci/venv embedded,demo
	@$(BIN)/qmanager simulate $(or $(ARGS),tenfold --duration 10m)

test: lint unit redis process deploy cluster ## all that must be green before a change lands

setup-tests:
	@.ci/packages
	@.ci/venv embedded,demo,dev

lint: setup-tests ## format, lint, types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

unit: setup-tests ## pure parts
	@$(PYTEST) tests/unit

redis: setup-tests ## the queue server's scripts on real servers; two at a time
	@$(PYTEST) -n 2 tests/redis

process: setup-tests ## real masters, molds and slots; three at a time, as most of it is waiting
	@$(PYTEST) -n 3 tests/process

deploy: setup-tests ## what deploy/ ships: the demo, units, the agent for pacemaker
	@$(PYTEST) tests/deploy

cluster: setup-tests ## the manager under a real pacemaker of three nodes: failovers, and never two; needs root
	@$(PYTEST) --maxfail=3 tests/cluster

explore: ## property tests with new examples, TIMES=20 as many; ARGS="-k dryrun" are passed on
	@.ci/venv embedded,demo,dev
	@QSLOTS_TEST_EXAMPLES=$(or $(TIMES),20) $(PYTEST) -n 2 -m hypothesis tests/unit $(ARGS)

chaos: ## ten thousand kills of slots at random points; ARGS="--kills 1000 --seed N" are passed on
	@.ci/venv embedded,demo,dev
	@$(BIN)/python tests/chaos/kills.py $(ARGS)

bench: ## tasks a second, latency; figures, not tests
	@.ci/venv embedded,demo,dev
	@$(BIN)/python tests/bench/chain.py

bench-queue: ## the queue server alone: figures beside their goals; ARGS="--deep --json ..." are passed on
	@.ci/venv embedded,demo,dev
	@$(BIN)/python tests/bench/queue_server $(ARGS)

bench-failover: ## seconds without a manager, fault by fault; ARGS="--rounds 10 --only node ..." are passed on
	@.ci/packages
	@.ci/venv embedded,demo,dev
	@$(BIN)/python tests/bench/failover.py $(ARGS)

bench-memory: ## memory beside Celery and gunicorn, births, idle cost; ARGS="--only idle --json ..." are passed on
	@.ci/venv embedded,demo,dev,bench
	@$(BIN)/python tests/bench/memory $(ARGS)

bench-plan: ## the planner at 10,000 servers and 900,000 slots; ARGS="--servers 1000 --only plans --json" are passed on
	@.ci/venv embedded,demo,dev
	@$(BIN)/python tests/bench/plan.py $(ARGS)

clean: ## forget .venv and what tools have cached; keeps .qslots
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
