# Two commands: `make demo` runs the main job with nothing but Python 3.11+, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs results results-flow results-merba results-frame-study clean

demo: $(VENV)/.installed
	$(BIN)/fleeting demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# generated pages under docs/
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fleeting wants Python 3.11 or newer, got " + sys.version.split()[0] + "; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.installed

# docs/results/megc2019.md: hours on two cores; every run resumes. Wants the data: fleeting data fetch megc2019_flow
RUNS := megc2019/flow_svm megc2019/ststnet megc2019/ststnet_paper htnet/table2_small merba/megc2019_small \
  megc2019/flow_svm_hde
JOBS ?= 2
results: $(VENV)/.installed
	set -e; for run in $(RUNS); do \
	  $(BIN)/fleeting run experiments/$$run.toml --out runs/$$run --jobs $(JOBS); done
	$(BIN)/fleeting report $(addprefix runs/,$(filter-out %hde,$(RUNS))) --out docs/results/megc2019.md
	$(BIN)/fleeting report runs/megc2019/flow_svm_hde --out docs/results/hde.md

# docs/results/flow.md: drawn faces, about ten minutes
results-flow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/flow_truth.py

# docs/results/merba.md: Tables IV to VII in small on drawn faces, an hour on two cores; every run resumes
MERBA := table4 table4_base table4_mambavision table4_htnet table4_svm table6_local_local table6_global_global table7_a \
  table7_ab table7_cd table7_bi table7_sy table5 table5_svm
results-merba: $(VENV)/.installed
	$(BIN)/fleeting data draw drawn/faces --set subjects=20 --set seed=1
	set -e; for row in $(MERBA); do FLEETING_SIMULATED=drawn/faces \
	  $(BIN)/fleeting run experiments/merba/$${row}_small.toml --out runs/merba/$$row --jobs $(JOBS); done
	$(BIN)/fleeting report $(addprefix runs/merba/,$(MERBA)) --out docs/results/merba.md

# docs/results/frame_study.md: what 28 test clips can tell, simulated; a few minutes on one core
results-frame-study: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/frame_study_power.py

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
