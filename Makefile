# Two commands on a fresh machine: `make demo` and `make test`. Both make their own .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo check docs dist test-wheels gpu test test-long test-campaigns hooks stale test-lowest test-lowest-quickly test-adapters test-python lint format gate torture bench bench-index bench-peers bench-retrieval bench-gate bench-gate-questions bench-reranking clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

ADAPTERS := integrations/langchain integrations/llama_index integrations/haystack
SAY := @printf '\n── %s\n'

# A .venv that does not run, has no pip, or is of another version of Python than $(PYTHON) is made again.
VERSION := import sys; print(*sys.version_info[:2], sep=".")
SOUND = [ "$$($(BIN)/python -c 'import pip; $(VERSION)' 2>/dev/null)" = "$$($(PYTHON) -c '$(VERSION)')" ]
STALE := $(if $(wildcard $(READY)),$(shell $(SOUND) || echo stale))
# Without compiling every module of every package, which takes longer than the rest: Python compiles what it imports.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
stale:
$(READY): pyproject.toml constraints-dev.txt $(ADAPTERS:%=%/pyproject.toml) $(STALE)
	@$(PYTHON) -c 'import sys; sys.exit("Reperio needs Python 3.10 or newer, not %d.%d; run: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@if $(SOUND); then :; else \
		test ! -e $(VENV) || echo "$(VENV) is half made, or of another Python: it is made again"; \
		rm -rf $(VENV); $(PYTHON) -m venv $(VENV); fi
	$(SAY) 'packages into $(VENV), PyTorch among them: some minutes'
	$(INSTALL) --upgrade pip
	$(INSTALL) -c constraints-dev.txt -e '.[dev]' $(ADAPTERS:%=-e '%[test]')
	@touch $@

demo: $(READY)  ## Index the documentation of this Python, then a folder of mixed files, and ask them questions
	@$(BIN)/python examples/python_docs.py
	$(SAY) 'a folder of mixed files (seconds)'
	@$(BIN)/python examples/mixed_folder.py

lint: $(READY)  ## Formatting, lint, types, import rules
	$(SAY) 'format and lint (seconds)'
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	$(SAY) 'types of the core and the adapters (half a minute)'
	@printf '%s\n' . $(ADAPTERS) | xargs -P 2 -I {} sh -c 'cd {} && $(CURDIR)/$(BIN)/mypy'
	$(SAY) 'import rules (seconds)'
	@$(BIN)/lint-imports --no-cache

# Tests start hundreds of processes: each would compile Reperio again where Python is told to keep no bytecode.
export PYTHONDONTWRITEBYTECODE :=

# Neighbouring tests share what a module or a folder has made for them: each worker takes a run of them, not every other one.
PYTEST := pytest -n 2 --dist worksteal

# Tests commit thousands of times, and a disk takes milliseconds for each sync: what they write is in memory where there are
# 4 GiB for it. No test can tell, since a killed process leaves to the next one what it has written, synced or not. The
# campaigns stay on the disk.
SPACE := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4194304 {print "/dev/shm"}')
MEMORY := $(if $(SPACE),TMPDIR=$(SPACE))
BRIEFLY := -o tmp_path_retention_policy=failed
test: lint  ## Everything that must pass before a merge, campaigns in short (ten minutes)
	$(SAY) 'all tests of the core (eight minutes), then those of the adapters (two minutes)'
	@failed=; \
	$(MEMORY) $(BIN)/$(PYTEST) $(BRIEFLY) || failed="$$failed core"; \
	for adapter in $(ADAPTERS); do printf '\n── all tests of %s\n' $$adapter; (cd $$adapter && $(MEMORY) ../../$(BIN)/$(PYTEST) $(BRIEFLY)) || failed="$$failed $$adapter"; done; \
	test -z "$$failed" || { echo "tests failed in:$$failed" >&2; exit 1; }

test-campaigns: $(READY)  ## What `make test` leaves out: kills, damage and traffic at length, whole benchmarks, all combinations (13 minutes)
	$(SAY) 'the campaigns (13 minutes)'
	@$(BIN)/$(PYTEST) -m campaign

test-long: test test-campaigns  ## Every test there is: `make test`, then the campaigns (half an hour)

# By path: what is quick and covers every room's rules; tests that load the model, kill processes or train indexes are left out.
QUICK := tests/ranking tests/store tests/layout $(addprefix tests/filters/test_,filters.py hostile_filters.py patterns.py) \
	$(addprefix tests/test_,pages.py fault_page.py printable.py vectors.py wrong_arguments.py) \
	$(addprefix tests/collection/,test_opening.py write/test_adding.py search/test_filtered.py search/test_modes.py handle/test_scope.py) \
	tests/evaluation/golden/test_questions.py tests/evaluation/statistics $(addprefix tests/ingestion/,reading/test_reading.py cutting/test_splitting.py)
check: lint  ## What is quick: lint, types, import rules, and a quarter of the tests (a minute)
	$(SAY) 'the quick tests: no model, no kills, no training (a minute)'
	@$(BIN)/$(PYTEST) -m 'not model and not crash' $(QUICK)

# The campaigns of kills, full disks and benchmarks do not depend on the versions of Python and of the packages.
CAMPAIGNS := crash eval fault gate
BROAD_TESTS := bin/$(PYTEST) $(CAMPAIGNS:%=--ignore=tests/%)

# uv, because pip cannot resolve to the lowest versions; where a machine keeps wheels of its own for pip, it looks there as well.
# Copied, not linked to its cache: nltk, which llama-index brings, refuses to read files that have several names.
LOWEST := .venv-lowest
QUICK_LOWEST := tests/index tests/collection/search $(addprefix tests/origins/test_,servers.py redis.py) \
	tests/cli/test_output.py tests/exchange/test_exporting.py
OTHER := .venv-other
INSTALL_LOWEST = $(1)/bin/python -m pip install --quiet --disable-pip-version-check uv && UV_FIND_LINKS="$$PIP_FIND_LINKS" \
	env $${PIP_CERT:+SSL_CERT_FILE="$$PIP_CERT"} $(1)/bin/uv pip install --quiet --link-mode copy --python $(1)/bin/python --resolution lowest-direct -c constraints-lowest.txt
$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt $(ADAPTERS:%=%/pyproject.toml)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(call INSTALL_LOWEST,$(LOWEST)) -e '.[dev]' $(ADAPTERS:%=-e '%[test]')
	@touch $@

# The model's tests and the adapters' with this Python; the others with $(OLDEST), for there torch may have no build.
OLDEST ?= $(PYTHON)
test-lowest: $(LOWEST)/.ready  ## The tests, with the lowest version of everything that pyproject.toml declares
	$(OLDEST) -m venv --clear $(OTHER)
	$(call INSTALL_LOWEST,$(OTHER)) -e '.[test]'
	@failed=; \
	$(OTHER)/$(BROAD_TESTS) -m 'not model' || failed="$$failed core"; \
	$(LOWEST)/$(BROAD_TESTS) -m model || failed="$$failed core-with-a-model"; \
	for adapter in $(ADAPTERS); do (cd $$adapter && ../../$(LOWEST)/bin/$(PYTEST)) || failed="$$failed $$adapter"; done; \
	test -z "$$failed" || { echo "tests with the lowest versions failed in:$$failed" >&2; exit 1; }

# What a version that is too low breaks is an import, a call or a new warning: those show in a test of each room.
test-lowest-quickly:  ## The broad and short part of test-lowest, without torch (four minutes)
	$(OLDEST) -m venv --clear $(OTHER)
	$(call INSTALL_LOWEST,$(OTHER)) -e '.[test]'
	@$(MEMORY) $(OTHER)/bin/$(PYTEST) $(BRIEFLY) -m 'not model and not crash' $(QUICK) $(QUICK_LOWEST)

# With pip and explicit versions, where `make test-lowest` asks uv to resolve: a framework's oldest version is what is asked
# for, with whatever it takes itself. One environment for each of the two ends; CI runs each adapter by itself.
VERSIONS ?= oldest
ENDS := .venv-adapters-$(VERSIONS)
test-adapters:  ## The adapters' tests, with the oldest or the newest framework: make test-adapters VERSIONS=newest
	@case $(VERSIONS) in oldest|newest) ;; *) echo "VERSIONS is $(VERSIONS); choose oldest or newest" >&2; exit 1;; esac
	$(PYTHON) -m venv --clear $(ENDS)
	@if [ $(VERSIONS) = oldest ]; then \
		for adapter in $(ADAPTERS); do $(ENDS)/bin/python .ci/pins.py $$adapter/pyproject.toml; done | sort -u >$(ENDS)/pins.txt; \
		cat constraints-lowest.txt >>$(ENDS)/pins.txt; \
	else : >$(ENDS)/pins.txt; fi
	$(SAY) 'packages into $(ENDS), PyTorch among them: some minutes'
	$(ENDS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(ENDS)/pins.txt \
		-e . $(ADAPTERS:%=-e '%[test]')
	@$(ENDS)/bin/python -m pip list --disable-pip-version-check 2>/dev/null | grep -E '^(langchain-core|llama-index-core|haystack-ai) '
	@failed=; \
	for adapter in $(ADAPTERS); do printf '\n── %s, $(VERSIONS)\n' $$adapter; \
		(cd $$adapter && $(MEMORY) $(CURDIR)/$(ENDS)/bin/python -m pytest $(BRIEFLY)) || failed="$$failed $$adapter"; done; \
	test -z "$$failed" || { echo "tests with the $(VERSIONS) frameworks failed in:$$failed" >&2; exit 1; }

# Without the model: torch is large, and there is not a build of it for every Python on every machine.
test-python:  ## The tests that need no model, on another Python: make test-python PYTHON=python3.13
	$(PYTHON) -m venv --clear $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	$(OTHER)/$(BROAD_TESTS) -m 'not model'

docs: $(READY)  ## The site, in build/website/site: strictly, each link followed, without a network (seconds)
	$(SAY) 'the site (seconds)'
	@$(BIN)/python website/build.py

dist: $(READY)  ## Wheels and sdists of all packages, built and checked, in dist/
	@$(BIN)/python .ci/packages.py dist

# Not after `make dist` by itself: with another PYTHON that would make .venv again.
test-wheels:  ## After make dist, each wheel alone in an empty environment: make test-wheels PYTHON=python3.13
	@test -d dist || { echo "there are no packages yet; run: make dist" >&2; exit 1; }
	@$(PYTHON) .ci/wheels.py dist

hooks: $(READY)  ## Let git run format, lint and types before each commit
	$(INSTALL) pre-commit
	$(BIN)/pre-commit install

format: $(READY)  ## Let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gate: $(READY)  ## Gate the demo's collection with eval/gate/python_docs.yaml, as CI does
	@$(BIN)/python examples/python_docs.py >/dev/null
	$(BIN)/reperio gate demo-kb --golden eval/gate/python_docs.yaml

torture: $(READY)  ## Kill, fill, corrupt, race, restore: the full campaign (hours); goes on where it was
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r eval/torture/requirements.txt
	$(BIN)/python eval/torture/run.py

# Nothing is installed here: which FAISS is right depends on the driver (docs/operations.md), and two of them do not
# go together. GPU_PYTHON is the interpreter that has it.
GPU_PYTHON ?= $(BIN)/python
gpu:  ## On a machine with a graphics card: its tests, then CPU next to GPU at 1 M × 1,024 (resumable)
	@$(GPU_PYTHON) -c 'from reperio.index import find_card; find_card("gpu")' 2>&1 | tail -1 | { ! grep .; } \
		|| { echo 'make gpu needs a FAISS for graphics cards in $(GPU_PYTHON), pytest, and a card (docs/operations.md)' >&2; exit 1; }
	$(GPU_PYTHON) -m pytest -m gpu tests/gpu
	$(GPU_PYTHON) eval/bench/gpu.py

bench: $(READY)  ## Measure; writes eval/results/
	$(BIN)/python eval/bench/run.py

bench-index: $(READY)  ## Measure the choice of index: sweep, growth, ten million (hours)
	$(BIN)/python eval/bench/sweep.py
	$(BIN)/python eval/bench/growth.py
	$(BIN)/python eval/bench/large.py

PEERS := .venv-peers
PEERS_WORK ?= .peers-work
$(PEERS)/.ready: eval/bench/peers/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r eval/bench/peers/requirements.txt -e .
	@touch $@

bench-peers: $(PEERS)/.ready  ## Measure next to the peers; 40 GB in PEERS_WORK (hours)
	$(PEERS)/bin/python eval/bench/peers/run.py --work $(PEERS_WORK)
	$(PEERS)/bin/python eval/bench/peers/run.py --work $(PEERS_WORK) --rows 1000000

bench-retrieval: $(PEERS)/.ready  ## Measure filters, lexical and hybrid search (half an hour)
	$(PEERS)/bin/python eval/bench/filtered.py --work $(PEERS_WORK)/filtered
	$(PEERS)/bin/python eval/bench/lexical.py --work $(PEERS_WORK)/lexical

bench-gate-questions: $(READY)  ## Put 63 kinds of accident into three text sets, with 20 to 200 questions (hours)
	$(BIN)/python eval/gate/edition/sensitivity.py --kept-back --work $(PEERS_WORK)/gate-questions --out eval/results/gate-questions.json
	$(BIN)/python eval/gate/edition/pages.py

bench-gate: $(READY)  ## Break a collection in every way and see whether the gate notices (an hour)
	$(BIN)/python eval/gate/detection.py --work $(PEERS_WORK)/gate --benign 200 --large --out eval/results/gate.json

bench-reranking: $(READY)  ## Fine-tune a small cross-encoder and measure every reranker (an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r eval/reranking/requirements.txt
	$(BIN)/python eval/reranking/train.py --work $(PEERS_WORK)/reranking
	$(BIN)/python eval/reranking/ablation.py --work $(PEERS_WORK)/reranking

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) $(PEERS) $(LOWEST) $(OTHER) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-kb
