# The course on your own machine: `make course`, then `make lab`. To check it: `make test`.
#
#   PYTHON=python3.12           another Python (3.11 to 3.13)
#   TORCH_INDEX=<address>       an index with other builds of torch. On Linux the usual one may bring the CUDA build, which is
#                               larger and as good; pytorch.org names the address of the small CPU-only builds.
PYTHON ?= python3
TORCH_INDEX ?=
VENV = .venv/bin/python

.PHONY: help setup course lab test newest record badges kaggle-bundle clean clean-all

help:
	@echo "make course         set up .venv, run every notebook, show the results"
	@echo "make lab            set up .venv, open the notebooks in JupyterLab"
	@echo "make test           set up .venv, run the unit tests and check every notebook against its stored results"
	@echo "make newest         check every keyword that the course passes against the newest TRL, PEFT, transformers, datasets and Unsloth"
	@echo "make record NB=01   run notebook 01 from a fresh kernel and store its outputs"
	@echo "make badges REPO=owner/name   badges for Colab and Kaggle in README and notebooks (REPO=none: remove them)"
	@echo "make kaggle-bundle  wheels, data and notebooks in dist/kaggle, for a Kaggle notebook without internet"
	@echo "make clean          remove what runs left behind (build/); clean-all: .venv too"

setup:
	@$(PYTHON) -I rftlab/install.py $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")

course: setup
	@$(VENV) -m rftlab.notebooks course

lab: setup
	@$(VENV) -m rftlab.notebooks lab

# One pytest run, whose closing line is the last. Notebooks run one after another: training uses all threads.
test: setup
	$(VENV) -m pytest --nbval --durations=10 --basetemp=build/pytest tests notebooks

# The packages are read and never imported or mixed with those of .venv.
newest: setup
	rm -rf build/newest
	$(VENV) -m pip install --quiet --no-deps --target build/newest trl peft transformers datasets accelerate unsloth unsloth_zoo
	$(VENV) -m rftlab.keywords --packages build/newest

record: setup
	@$(VENV) -m rftlab.notebooks record $(NB)

REF ?= main
badges: setup
	@$(VENV) -m rftlab.badges $(if $(REPO),$(REPO) --ref $(REF))

kaggle-bundle: setup
	@$(VENV) -m rftlab.bundle

clean:
	rm -rf build dist .pytest_cache .hypothesis rftlab.egg-info

clean-all: clean
	rm -rf .venv
