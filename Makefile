# Needs Python 3.11 to 3.14 and make; whatever else is needed is installed into .venv.

# The newest supported interpreter that runs: a name on PATH may belong to one that is not installed.
SUPPORTED := 3.14 3.13 3.12 3.11
PYTHON ?= $(shell for version in $(SUPPORTED); do \
	python$$version -c '' 2>/dev/null && echo python$$version && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
OLDEST := $(lastword $(SUPPORTED))
IN_PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PACKAGES := proto services/common services/retriever services/generator client evaluation demo
CODE := proto/setup.py services client evaluation demo tests parity tools examples $(wildcard benchmarks)

# No nagging about newer versions of pip, and no need for a home folder.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo kb test test-oldest test-browser lighthouse test-api torture soak results parity peer plan sbom compose-recovery replica-recovery ray-recovery lint coverage bench bench-serving bench-retrieval install java proto lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

demo: install ## build the demo knowledge base, start everything, draw images into out/ (ONESHOT=1 exits after them)
	@$(BIN)/python -m reimagen_demo $(if $(filter-out 0,$(ONESHOT)),--oneshot)

kb: install ## build the demo knowledge base only, into build/demo/kb
	@$(BIN)/python -m reimagen_demo.stack.knowledge_base

test: install ## run every test
	@$(BIN)/python -m pytest $(IN_PARALLEL)

test-oldest: ## run the tests of the retriever, and of what it shares, on Python 3.11, which has an older Lucene
	@$(MAKE) --no-print-directory install VENV=build/python$(OLDEST) PYTHON=python$(OLDEST)
	@build/python$(OLDEST)/bin/python -m pytest $(IN_PARALLEL) tests/common tests/retriever tests/test_house.py

test-browser: install ## the page at / in Chromium: the whole journey, on a desktop and a phone, and its accessibility
	@$(BIN)/python -m pytest tests/browser

lighthouse: install ## audit the page at / with Lighthouse, on a desktop and a phone; fails below 95 (needs npm's registry once)
	@$(BIN)/python -m tools.lighthouse

test-api: install ## compare both services with their OpenAPI documents: schemathesis, all checks, 2,000 examples of each operation
	@REIMAGEN_API_EXAMPLES=2000 $(BIN)/python -m pytest tests/integration/test_openapi.py

torture: install ## what CI runs short, long: training and a base's service killed often, 10,000 damaged sources of each kind; and a trace of what is synced
	@REIMAGEN_KILLS=25 $(BIN)/python -m pytest tests/generator/training/test_killed.py
	@REIMAGEN_KILLS=100 $(BIN)/python -m pytest tests/retriever/test_durability.py
	@REIMAGEN_EXAMPLES=10000 $(BIN)/python -m pytest tests/retriever/knowledge_base/sources/test_bad_input.py
	@$(BIN)/python -m benchmarks.traces.acknowledgements

soak: install ## 10,000 requests to one generator, of which 1,000 vanish or are cancelled, and its memory
	@REIMAGEN_SOAK=10000 $(BIN)/python -m pytest tests/integration/test_soak.py --capture=no

results: install ## check the paper's claims on the demonstration's weights, into docs/results.md (goes on where it was ended)
	@$(BIN)/python -m reimagen_demo.report.results

parity: install $(VENV)/.reference ## compare the networks with diffusers and transformers (installs Torch)
	@$(BIN)/python -m pytest parity

plan: install $(VENV)/.plan ## what the model takes on TPUs that are not there (PRESET=re-imagen PLAN='--topology v4:2x2x1')
	@$(BIN)/reimagen-generator plan $(or $(PRESET),re-imagen) $(PLAN)

sbom: install $(VENV)/.sbom ## list the Python packages of each image in build/sbom, as CycloneDX
	@$(BIN)/python -m tools.sbom

compose-recovery: kb ## start Docker Compose with keys and TLS, kill its containers under load, and check that all recovers (needs Docker and root)
	@$(BIN)/python -m tools.recovery.compose

replica-recovery: install ## kill one of two retrievers and of two generators behind HAProxy under load (needs haproxy and root)
	@$(BIN)/python -m tools.recovery.replicas

ray-recovery: install ## kill one of two nodes of a Ray cluster during a build (needs root)
	@$(BIN)/python -m tools.recovery.ray_nodes

peer: install $(VENV)/.reference ## measure the networks beside diffusers' (installs Torch)
	@$(BIN)/python -m benchmarks.peers.deepfloyd

lint: install ## check style, types, the direction of imports, spelling and links
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/codespell
	@$(BIN)/python -m tools.links
	@$(BIN)/mypy $(CODE)

# From Python 3.13 on, coverage's own databases are reported as unclosed.
coverage: install ## run every test and print the coverage of each package; fails below the floor in pyproject.toml
	@$(BIN)/python -m pytest $(IN_PARALLEL) --cov --cov-report=term -W 'ignore:unclosed database:ResourceWarning'

bench: install ## measure, one table for each benchmark
	@for script in benchmarks/*.py; do \
		$(BIN)/python -m "benchmarks.$$(basename "$$script" .py)" || exit 1; \
	done

bench-serving: install ## measure the engine under load beside two other policies, and simulate it on an accelerator
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.serving.simulate

bench-retrieval: install $(VENV)/.peers ## measure search beside pyserini, bm25s and tantivy, and how it grows (CAPTIONS=1000000)
	@$(BIN)/python -m benchmarks.bm25.peers $(CAPTIONS)
	@$(BIN)/python -m benchmarks.bm25.peers real
	@$(BIN)/python -m benchmarks.bm25.growth
	@$(BIN)/python -m benchmarks.bm25.cores
	@$(BIN)/python -m benchmarks.bm25.union $(CAPTIONS)
	@$(BIN)/python -m benchmarks.bm25.top_neighbors $(CAPTIONS)

install: $(VENV)/.installed ## install the services and their tools into .venv

java: install ## compile the retriever's Java code into the jar that its package ships (needs Python 3.11 and JDK 17)
	@$(BIN)/python -m tools.java

proto: $(VENV)/.dependencies ## generate the gRPC stubs anew
	@$(INSTALL) --editable proto

# Local packages are left out of a lock: each environment installs them from this checkout. A lock is for Linux and every
# supported Python, with markers where versions differ.
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11 --upgrade \
	$(foreach name,proto common retriever generator client evaluation demo,--no-emit-package reimagen-$(name))

lock: install ## resolve the locks anew, to the newest versions that the packages allow
	@$(LOCK) --all-extras --no-emit-package libtpu --group test --group lint --group lock --group build \
		$(PACKAGES:=/pyproject.toml) -o requirements.lock
	@$(LOCK) --constraint requirements.lock --group build -o requirements-build.lock
	@for service in retriever generator; do \
		$(LOCK) --constraint requirements.lock services/$$service/pyproject.toml \
			-o services/$$service/requirements.lock || exit 1; \
	done
	@for service in retriever generator; do \
		echo gcsfs | $(LOCK) --constraint requirements.lock - -o services/$$service/requirements-gcsfs.lock || exit 1; \
	done
	@for accelerator in tpu cuda12; do \
		echo "jax[$$accelerator]" | $(LOCK) --constraint requirements.lock - \
			-o services/generator/requirements-$$accelerator.lock || exit 1; \
	done
	@$(LOCK) --constraint requirements.lock --group reference --no-emit-package torch --no-emit-package torchvision -o requirements-reference.lock
	@$(LOCK) --constraint requirements-reference.lock --group torch-cuda -o requirements-torch-cuda.lock
	@$(LOCK) --constraint requirements.lock --group peers -o requirements-peers.lock
	@$(LOCK) --constraint requirements.lock --group sbom -o requirements-sbom.lock
	@sed -n 's/^plan = \["\(.*\)"\]$$/\1/p' services/generator/pyproject.toml | $(LOCK) - -o requirements-plan.lock

clean: ## remove whatever make has made
	rm -rf .venv build out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f proto/reimagen/v1/*_pb2*.py proto/reimagen/v1/*_pb2*.pyi
	find $(wildcard proto services client evaluation demo tests parity benchmarks) \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

$(VENV)/.created:
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	case ' $(SUPPORTED) ' in *" $$version "*) ;; *) false ;; esac || { \
		echo 'Re-Imagen needs Python 3.11, 3.12, 3.13 or 3.14, and "$(PYTHON)" is none of them. Name one: make PYTHON=/path/to/python3.13' >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The locks name every package, so that none is looked up; their hashes are checked. Pyserini is built from its source,
# without a throw-away environment, so what builds it comes first.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation
$(VENV)/.dependencies: requirements-build.lock requirements.lock $(VENV)/.created
	@echo 'Installing what requirements.lock names into $(VENV) (a few minutes the first time)'
	@$(INSTALL) --require-hashes --requirement requirements-build.lock
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@touch $@

# Torch's CPU build is a tenth of the one on PyPI, but is not there: it is taken where pip's own configuration finds it.
# Little of these packages is ever imported, so that compiling all of it would be most of the installation.
$(VENV)/.reference: requirements-reference.lock requirements-torch-cpu.lock requirements-torch-cuda.lock $(VENV)/.dependencies
	@echo 'Installing what requirements-reference.lock names into $(VENV)'
	@$(INSTALL) --no-compile --require-hashes --requirement requirements-torch-cpu.lock 2>/dev/null || \
		$(INSTALL) --no-compile --require-hashes --requirement requirements-torch-cuda.lock
	@$(INSTALL) --no-compile --require-hashes --requirement requirements-reference.lock
	@touch $@

$(VENV)/.peers: requirements-peers.lock $(VENV)/.dependencies
	@echo 'Installing what requirements-peers.lock names into $(VENV)'
	@$(INSTALL) --require-hashes --requirement requirements-peers.lock
	@touch $@

$(VENV)/.sbom: requirements-sbom.lock $(VENV)/.dependencies
	@echo 'Installing what requirements-sbom.lock names into $(VENV)'
	@$(INSTALL) --require-hashes --requirement requirements-sbom.lock
	@touch $@

# Under terms of its own, and large: installed for planning alone.
$(VENV)/.plan: requirements-plan.lock $(VENV)/.dependencies
	@echo 'Installing what requirements-plan.lock names into $(VENV)'
	@$(INSTALL) --require-hashes --requirement requirements-plan.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies proto/setup.py $(PACKAGES:=/pyproject.toml) $(wildcard proto/reimagen/v1/*.proto)
	@$(INSTALL) $(PACKAGES:%=--editable ./%)
	@touch $@
