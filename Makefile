# Two commands: `make demo` runs the main job with nothing but Python 3.11+, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs results results-flow results-merba results-bowam results-ammsm \
  results-frame-study results-frame-study-small clean

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
RUNS := megc2019/flow_svm megc2019/ststnet megc2019/ststnet_paper htnet/table2_small \
  $(addsuffix /megc2019_small,merba bowam ammsm) megc2019/flow_svm_hde
GROUPS := megc2019/flow_svm_groups $(addsuffix /megc2019_groups,merba bowam ammsm)
JOBS ?= 2
results: $(VENV)/.installed
	set -e; for run in $(RUNS) $(GROUPS); do \
	  $(BIN)/fleeting run experiments/$$run.toml --out runs/$$run --jobs $(JOBS); done
	$(BIN)/fleeting report $(addprefix runs/,$(filter-out %hde,$(RUNS))) --out docs/results/megc2019.md
	$(BIN)/fleeting report $(addprefix runs/,$(GROUPS)) --out docs/results/megc2019_groups.md
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
	$(BIN)/python benchmarks/ablations.py merba drawn=runs/merba --out docs/results/merba.md
	$(BIN)/fleeting report $(addprefix runs/merba/,table4 table4_base table4_svm) --out docs/results/merba_six.md
	$(BIN)/fleeting report $(addprefix runs/merba/,table5 table5_svm) --out docs/results/merba_three.md

# docs/results/bowam.md: Tables 4 to 11 in small, with a still and with a drifting head; an hour and a half on two cores
BOWAM := table4 $(addprefix table4_,a b c d e) table5_concatenation table5_product table6_separate \
  $(addprefix table7_,bior coif5 db4 sym5) $(addprefix table8_,4 8 32) table9_5 table9_7 table10_3 table10_5 \
  $(addprefix table11_,biwoof biwoof_svm mdmo mdmo_svm fourier freqhd)
results-bowam: $(VENV)/.installed
	$(BIN)/fleeting data draw drawn/still --set subjects=16 --set drift_px=0
	$(BIN)/fleeting data draw drawn/drifting --set subjects=16 --set drift_px=2 --set drift=linear
	set -e; for corpus in still drifting; do for row in $(BOWAM); do FLEETING_SIMULATED=drawn/$$corpus \
	  $(BIN)/fleeting run experiments/bowam/$${row}_small.toml --out runs/bowam/$$corpus/$$row --jobs $(JOBS); done; done
	$(BIN)/python benchmarks/ablations.py bowam still=runs/bowam/still drifting=runs/bowam/drifting \
	  --out docs/results/bowam.md

# docs/results/magnifier.md and ammsm.md: Table III in small on drawn faces, and the magnifier on faces
# whose motion is known; an hour on two cores; every run resumes
AMMSM := table3 $(addprefix table3_,mamba_sa scale weight mamba_amm mamba $(addprefix transformer,_amm_sa _sa _amm) transformer)
results-ammsm: $(VENV)/.installed
	$(BIN)/fleeting data draw drawn/faces --set subjects=20 --set seed=1
	set -e; for row in $(AMMSM); do FLEETING_SIMULATED=drawn/faces \
	  $(BIN)/fleeting run experiments/ammsm/$${row}_small.toml --out runs/ammsm/$$row --jobs $(JOBS); done
	$(BIN)/python benchmarks/ablations.py ammsm drawn=runs/ammsm --out docs/results/ammsm.md
	$(BIN)/fleeting report $(addprefix runs/ammsm/,table3 table3_scale table3_transformer_amm_sa) \
	  --out docs/results/ammsm_table3.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/magnifier.py --out docs/results/magnifier.md \
	  --runs $(addprefix runs/ammsm/,table3 table3_scale table3_mamba_sa)

# docs/results/frame_study.md: what 28 test clips can tell, simulated; a few minutes on one core
results-frame-study: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/frame_study_power.py

# docs/results/frame_study_small.md: drawn faces in CASME II's numbers, about 45 minutes of one core; every run resumes
FS_ROWS := $(foreach m,vit swin m36,$(foreach s,af kfs mfs,$(m)_$(s)_m1 $(m)_$(s)_m2)) vit_af_centre_384_grey \
  vit_af_centre_224_rgb vit_af_centre_224_grey vit_af_box_384_rgb vit_af_box_384_grey vit_af_box_224_rgb \
  m36_mfs_m2_long m36_mfs_m2_mean m36_mfs_m2_gru m36_mfs_m2_lstm
FS_SUBJECTS := vit_af_m1 vit_af_m2 swin_kfs_m1 swin_kfs_m2 m36_mfs_m1 m36_mfs_m2
results-frame-study-small: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/frame_study_corpus.py drawn/casme2
	set -e; export FLEETING_CASME2=drawn/casme2; for row in $(FS_ROWS); do $(BIN)/fleeting run \
	  experiments/frame_study/$${row}_small.toml --out runs/frame_study/split/$$row --jobs $(JOBS); done
	set -e; export FLEETING_CASME2=drawn/casme2; for row in $(FS_SUBJECTS); do $(BIN)/fleeting run \
	  experiments/frame_study/$${row}_small.toml --set protocol.subject_overlap=false --set 'seeds=[0]' \
	  --out runs/frame_study/subjects/$$row --jobs $(JOBS); done
	$(BIN)/python benchmarks/frame_study.py runs/frame_study

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
