# Everything a person types. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
# One test process for each processor; idle ones take tests from those that lag behind.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal
# Folders whose tests compute, and so may hang on how a processor rounds.
COMPUTING := $(addprefix tests/,solve curvature search kernels quantize exchange models optim ddp fsdp train)
DEVICE ?= cpu
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow test-numerics check-gpu lint format bench-kernels bench-hooks bench-exchange bench-training bench-growth bench-frontier bench-ordinary bench-planner bench-planner-lab bench-curvature bench-minibatch bench-preconditioners bench-methods bench-scaling bench-profile bench-speeds bench-speech tables support fuzz docs figures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with the pinned dependencies and the package in it

$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'thinwire needs Python 3.11 or newer: make PYTHON=python3.x' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: install ## train MNIST over 1-bit gradients with 4 workers
	$(BIN)/thinwire train mnist-onebit --workers 4

test: install ## run the fast tests on all processors
	$(BIN)/pytest $(PARALLEL)

test-slow: install ## run the tests that take minutes
	$(BIN)/pytest -m slow $(PARALLEL)

test-numerics: install ## run the tests that compute as two other processors would round
	ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/pytest $(PARALLEL) $(COMPUTING)
	ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE $(BIN)/pytest $(PARALLEL) $(COMPUTING)

check-gpu: install ## tests and speed of what runs on a GPU (status 2 where there is none)
	$(BIN)/python -m tests.check_gpu

lint: install ## ruff, mypy and the layer rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-kernels: install ## time the kernels against an in-place add, or with DEVICE=cuda against a copy there
	THINWIRE_RESULTS=runs/kernels $(BIN)/python -m benchmarks.kernels$(if $(filter-out cpu,$(DEVICE)),.device --set device=$(DEVICE)) --again

bench-hooks: install ## how often DDP hooks survive on gloo
	$(BIN)/python -m benchmarks.exchange.hooks --again --only hook

bench-exchange: install ## time and bytes of one exchange on throttled wires (root; 25 minutes)
	$(BIN)/python -m benchmarks.exchange

bench-training: install ## time and bytes to a target on throttled wires (root; 3 hours, goes on)
	$(BIN)/python -m benchmarks.training

bench-methods: install ## what every method takes to a training error (45 minutes, goes on)
	$(BIN)/python -m benchmarks.hessian_free.methods

bench-scaling: install ## gradient, product and line search against workers (root; 3 minutes)
	$(BIN)/python -m benchmarks.hessian_free.scaling

bench-profile: install ## calibrate the planner for its figures (1 minute)
	$(BIN)/thinwire plan --calibrate --workers 2 --profile benchmarks/results/profile.json

tables: install ## the tables of the 1-bit paper on MNIST, into docs/results.md (30 minutes, goes on)
	$(BIN)/python -m benchmarks.training.paper_tables

bench-speech: install ## the papers' tables on speech, into docs/speech-results.md (90 minutes, goes on)
	$(BIN)/python -m benchmarks.speech

bench-speeds: install ## samples/s against minibatch size and model parallelism (root; 12 minutes, goes on)
	$(BIN)/python -m benchmarks.training.speeds

bench-growth: install ## bytes, memory and time of one worker as workers are added (1 minute)
	$(BIN)/python -m benchmarks.exchange.growth --again

support: install ## write docs/support.md from the marks of the tests
	$(BIN)/python -m tests.support

fuzz: install ## try a hundred thousand mutated files on everything that reads files (5 minutes)
	$(BIN)/python -m tests.fuzz

docs: install ## build the documentation as a site, warnings being errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

figures: install ## draw docs/results and its page from benchmarks/results
	$(BIN)/python -m benchmarks.page

bench-ordinary: install ## what the one-line drop-in costs ordinary scripts (60 minutes, goes on)
	$(BIN)/python -m benchmarks.training.ordinary

bench-frontier: install ## bytes against loss for codes and bits, and the figure
	$(BIN)/python -m benchmarks.training.frontier && $(BIN)/python -m benchmarks.page

bench-curvature: install ## time curvature products against a gradient
	$(BIN)/python -m benchmarks.hessian_free.curvature --again

bench-planner: install ## the paper's tables as the planner predicts them
	$(BIN)/python -m benchmarks.planner paper

bench-planner-lab: install ## predicted against measured steps/s on throttled wires (root; 10 minutes, goes on)
	$(BIN)/python -m benchmarks.planner.in_lab

bench-minibatch: install ## iterations against the curvature minibatch (30 minutes, goes on)
	$(BIN)/python -m benchmarks.hessian_free.minibatch

bench-preconditioners: install ## what preconditioner and codes do to Hessian-free runs (60 minutes, goes on)
	$(BIN)/python -m benchmarks.hessian_free.preconditioners

clean: ## remove everything that can be made again
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
