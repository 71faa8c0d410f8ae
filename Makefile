# Every target sets up what it needs: .venv is made once, and remade when what it installs changes.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SITE_STAMP := .venv/.site-installed
# environments of their own, .venv-NAME with what the extra NAME asks for: the one that the suite
# runs in stays as it is
OTHERS := third-party integrations bench
# the versions of torch that are tested beside the pinned one, and what may depend on the version
VERSIONS := $(patsubst requirements/torch-%.txt,%,$(sort $(wildcard requirements/torch-*.txt)))
SENSITIVE := rules foreach aten op_db tensor traps linalg compile patches export layers laws ties \
	completeness registry kinds members main

STARTED := $(shell date +%s)
took = @seconds=$$(( $$(date +%s) - $(STARTED) )); \
	echo "==> all of it passed, in $$(( seconds / 60 )) min $$(( seconds % 60 )) s"
# a process that has nothing left takes tests from the other
SUITE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help demo test slow versions $(VERSIONS:%=version-%) third-party integrations docs release bench ops accuracy format clean
.DEFAULT_GOAL := help
.PRECIOUS: .venv-%/.installed .venv-torch-%/.installed

help:
	@echo "make demo    the Stack Overflow question, answered: derivatives of every sample at once"
	@echo "make test    lint, types and the whole test-suite: about 5 minutes on two cores"
	@echo "make slow    the long sweeps, beside the suite"
	@echo "make versions  what may depend on the version of torch, on each that is tested"
	@echo "make third-party   models of other packages from PyPI"
	@echo "make integrations  the packages that taylortorch plugs into"
	@echo "make docs    the documentation site, into site/"
	@echo "make release the wheel and the sdist, built, installed elsewhere and tried there"
	@echo "make bench   everything measured against its peers: docs/benchmarks.md (half an hour)"
	@echo "make ops     regenerate docs/ops.md from the rules"
	@echo "make accuracy  measure every function again: docs/accuracy.md and its picture (minutes)"
	@echo "make format  format the code"
	@echo "make clean   remove .venv and caches"

$(STAMP): pyproject.toml constraints.txt
	@echo "==> making .venv and installing taylortorch with its tested versions (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,examples,dev]'
	@touch $(STAMP)

demo: $(STAMP)
	@echo "==> examples/stack_overflow.py"
	@$(BIN)/python examples/stack_overflow.py

test: $(STAMP)
	@echo "==> lint, types and the whole test-suite: about 5 minutes on two quiet cores"
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> pytest"
	@$(SUITE)
	$(took)

slow: $(STAMP)
	@echo "==> pytest, the long sweeps"
	@$(SUITE) -m slow
	$(took)

.venv-%/.installed: pyproject.toml constraints.txt
	@echo "==> making .venv-$* and installing what it needs (once)"
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet -c constraints.txt torch
	@.venv-$*/bin/python -m pip install --quiet -c constraints.txt -e '.[test,$*]'
	@touch $@

# torch comes with its own libraries for GPUs, several GB, and runs on the CPU
.venv-torch-%/.installed: requirements/torch-%.txt pyproject.toml constraints.txt
	@echo "==> making .venv-torch-$* (once)"
	@test -x .venv-torch-$*/bin/python || $(PYTHON) -m venv .venv-torch-$*
	@grep -v '^torch==' constraints.txt > .venv-torch-$*/constraints.txt
	@.venv-torch-$*/bin/python -m pip install --quiet -r requirements/torch-$*.txt
	@.venv-torch-$*/bin/python -m pip install --quiet -r requirements/torch-$*.txt \
		-c .venv-torch-$*/constraints.txt -e '.[test]'
	@touch $@

$(VERSIONS:%=version-%): version-%: .venv-torch-%/.installed
	@echo "==> pytest, what may depend on the version, on torch $*: about 5 minutes"
	@OMP_NUM_THREADS=1 .venv-torch-$*/bin/python -m pytest -n 2 --dist worksteal \
		-p no:cacheprovider $(SENSITIVE:%=tests/test_%.py)
	$(took)

versions: $(VERSIONS:%=version-%)

third-party: .venv-third-party/.installed
	@echo "==> pytest, models of other packages"
	@OMP_NUM_THREADS=1 .venv-third-party/bin/python -m pytest -n 2 -m third_party tests/third_party

integrations: .venv-integrations/.installed
	@echo "==> pytest, the packages that taylortorch plugs into"
	@OMP_NUM_THREADS=1 .venv-integrations/bin/python -m pytest -n 2 -m integrations tests/integrations

$(SITE_STAMP): $(STAMP)
	@echo "==> installing what builds the site (once)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $(SITE_STAMP)

docs: $(SITE_STAMP)
	@echo "==> mkdocs"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "==> pytest, the site and its notebooks"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m docs tests/test_site.py

release: $(STAMP)
	@echo "==> pytest, the wheel and the sdist"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m release tests/test_release.py

bench: .venv-bench/.installed
	@.venv-bench/bin/python -m benchmarks

ops: $(STAMP)
	@$(BIN)/python docs/make_ops.py

accuracy: $(STAMP)
	@$(BIN)/python -m accuracy

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf .venv $(OTHERS:%=.venv-%) $(VERSIONS:%=.venv-torch-%) site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
