# make demo   the whole pipeline on real images; results in demo-output/
# make test   all tests
# make bench NAME=core   a benchmark with its peers; results in bench-output/
# Each sets up what it needs in .venv the first time.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# deepbet and nnU-Net's networks come without what only their own programs need, so pip would warn of conflicts.
PIP := $(PY) -m pip install -qq --disable-pip-version-check --no-warn-conflicts -c Testing/requirements/constraints.txt
export PYTHONPATH := MedImgAI:MedImgAIReconstruct:MedImgAIFusion:Testing
export QT_QPA_PLATFORM := offscreen

.PHONY: demo test test-all bench lint screenshots clean

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MedImgAI needs Python 3.11 or later.")'
	@echo "Making a virtual environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --upgrade "pip>=24" "setuptools>=77" wheel
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml setup.py Testing/requirements/run.txt Testing/requirements/constraints.txt
	@echo "Setting up Python packages in $(VENV) …"
	@$(PIP) -e . -r Testing/requirements/run.txt
	@$(PIP) --no-deps "deepbet>=1.0.2"
	@touch $@

$(VENV)/.test: $(VENV)/.run Testing/requirements/test.txt
	@echo "Setting up what the tests need …"
	@$(PIP) -r Testing/requirements/test.txt
	@$(PIP) --no-deps dynamic-network-architectures
	@touch $@

$(VENV)/.bench-%: $(VENV)/.test Testing/requirements/bench-%.txt
	@echo "Setting up the peers …"
	@$(PIP) -r Testing/requirements/bench-$*.txt
	@touch $@

demo: $(VENV)/.run
	@$(PY) Demo/run_demo.py $(if $(INPUT),--input "$(INPUT)") $(if $(SPACING_MM),--spacing-mm "$(SPACING_MM)")

test: $(VENV)/.test
	@$(PY) -m pytest -m "not slow"

test-all: $(VENV)/.test
	@$(PY) -m pytest

bench: $(VENV)/.bench-$(NAME)
	@$(PY) -m Benchmarks.run $(NAME)

lint: $(VENV)/.test
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

screenshots: $(VENV)/.test
	$(PY) Testing/screenshots.py docs/images

clean:
	rm -rf $(VENV) build demo-output bench-output
