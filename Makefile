# safety-geometry: see README.md. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE
export PYTHONUTF8 := 1

PYTHON ?= python3
CONFIG ?= config.yaml
CORES ?= 2
ARGS ?=
PROFILE ?= profiles/slurm
VENV := .venv
define NEWLINE


endef
# A variable as one word of the shell, as it was given: $(call quoted,CONFIG) for CONFIG='my study.yaml' (ARGS is several words).
override quoted = $(if $(findstring $(NEWLINE),$(value $(1))),$(error $(1) has a line break; give it in one line))'$(subst ','\'',$(value $(1)))'
HASH := \#
# The name of CONFIG's study, quoted or not; nothing for a line that is not just a name, so that no other folder is meant.
override STUDY = $(shell sed -nE "s/^study:[[:space:]]+([\"']?)([A-Za-z0-9][A-Za-z0-9_-]{0,63})\1([[:space:]]+$(HASH).*)?[[:space:]]*$$/\2/p" -- $(call quoted,CONFIG))
override REFERENCE = docs/results$(if $(filter-out default,$(STUDY)),/$(STUDY))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help run run-full smoke plan plan-cost plan-paper rehearse power calibrate export label-sample report summary docs test test-long test-unit test-gpu lint format verify compare check accept reference clean-study named-study
.PHONY: cluster cluster-plan cluster-recover cluster-install test-cluster test-slurm test-conda

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.run: requirements/run.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/run.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@touch $@

run: $(VENV)/.run ## build the environment and the study of CONFIG (default config.yaml), then its report
	@python workflow/run.py --configfile $(call quoted,CONFIG) --cores $(call quoted,CORES) $(ARGS)

run-full: ## the default study on the wide grid with three seeds (hours)
	@$(MAKE) --no-print-directory run CONFIG=configs/full.yaml

smoke: ## the tests' study on a tiny random model (minutes)
	@$(MAKE) --no-print-directory run CONFIG=configs/smoke.yaml

plan: $(VENV)/.run ## what `make run` would do now, and why
	@PYTHONPATH=workflow python -m pipeline.config_file $(call quoted,CONFIG) && snakemake --configfile $(call quoted,CONFIG) --cores $(call quoted,CORES) -n $(ARGS)

plan-cost: $(VENV)/.run ## jobs, hours, memory and disk of what `make run` would do, by stage (ARGS=--rules: by rule)
	@python workflow/plan_cost.py --configfile $(call quoted,CONFIG) $(ARGS)

plan-paper: $(VENV)/.run ## the same for the papers' settings
	@$(MAKE) --no-print-directory plan-cost CONFIG=configs/paper.yaml

rehearse: $(VENV)/.run ## configs/rehearsal.yaml on this machine's GPU: the papers' graph and shapes, and what each stage took beside what was said
	@python workflow/rehearse.py --cores $(call quoted,CORES) $(ARGS)

power: $(VENV)/.run ## what a study of CONFIG could decide, claim by claim: least detectable effect and deciding n
	@PYTHONPATH=src:workflow python workflow/power.py --configfile $(call quoted,CONFIG) $(ARGS)

calibrate: $(VENV)/.run ## measure this machine for plan-cost (a minute); writes results/cost_rates.json
	@python benchmarks/calibrate.py --configfile $(call quoted,CONFIG) $(ARGS)

export: $(VENV)/.run ## a checkpoint of CONFIG's study as a model folder: make export CHECKPOINT=r2d2:30 TO=FOLDER (ARGS=--what directions | no-r: H and R as files, or the model without R)
	@python workflow/export.py --configfile $(call quoted,CONFIG) --checkpoint $(call quoted,CHECKPOINT) --folder $(call quoted,TO) $(ARGS)

summary: $(VENV)/.run ## results/<study>/summary.html of CONFIG anew: one page of a finished study (make run makes it too)
	@python workflow/summary.py --configfile $(call quoted,CONFIG) $(ARGS)

label-sample: $(VENV)/.run ## 150 answers of CONFIG's finished study to label by hand, before their scores are seen (ARGS=--answers N)
	@python workflow/label_sample.py --configfile $(call quoted,CONFIG) $(ARGS)

$(VENV)/.slurm: requirements/slurm.txt $(VENV)/.run
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/slurm.txt
	@touch $@

cluster-install: $(VENV)/.slurm ## add the executors for clusters to the environment

cluster: $(VENV)/.slurm ## the study of CONFIG on a cluster, with PROFILE (default profiles/slurm); resumes a killed run
	@python workflow/cluster.py --configfile $(call quoted,CONFIG) --profile $(call quoted,PROFILE) --cores $(call quoted,CORES) $(ARGS)

cluster-plan: $(VENV)/.slurm ## what `make cluster` would submit, and why
	@python workflow/cluster.py --configfile $(call quoted,CONFIG) --profile $(call quoted,PROFILE) -n $(ARGS)

cluster-recover: $(VENV)/.slurm ## after a killed `make cluster`: end its jobs in the queue and unlock the folder
	@python workflow/cluster.py --configfile $(call quoted,CONFIG) --profile $(call quoted,PROFILE) --recover $(ARGS)

test: $(VENV)/.dev ## all tests but the long ones and those of clusters and conda
	@python -m pytest tests/unit -m "not long" -n 2 $(ARGS)
	@python -m pytest tests/workflow -m "not long" -n 2 --dist loadfile $(ARGS)

test-long: $(VENV)/.dev ## the smoke study once more from exported checkpoints, and trained by two processes; the ready configurations on stand-ins, a module's tables, weights that pass; all simulated runs of the claims
	@python -m pytest tests/unit tests/workflow -m long $(ARGS)

test-unit: $(VENV)/.dev ## the unit tests only
	@python -m pytest tests/unit -m "not long" -n 2 $(ARGS)

test-gpu: $(VENV)/.dev ## what needs CUDA: the smoke study in float32 and bfloat16 beside the CPU's, memory, batches, gradients
	@python -m pytest tests/gpu $(ARGS)

test-cluster: $(VENV)/.dev $(VENV)/.slurm ## profiles, a small graph and failing jobs on a SLURM of one node
	@python -m pytest tests/hpc -m "not study" -n 2 --dist loadfile $(ARGS)

test-slurm: $(VENV)/.dev $(VENV)/.slurm ## the whole smoke study on a SLURM of one node, and test-cluster
	@python -m pytest tests/hpc -m "not conda" -n 2 --dist loadfile $(ARGS)

build/conda-tools/.made: requirements/conda-test.txt
	$(PYTHON) -m venv build/conda-tools
	build/conda-tools/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/conda-test.txt
	@touch $@

test-conda: $(VENV)/.dev build/conda-tools/.made ## the conda environments, made against a local channel, and the smoke study in them
	@CONDA_TOOLS='$(subst ','\'',$(CURDIR))'/build/conda-tools/bin/python python -m pytest tests/hpc -m conda $(ARGS)

lint: $(VENV)/.dev ## ruff, snakefmt and snakemake --lint
	@ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && snakemake --lint

docs: $(VENV)/.dev ## these pages and the API reference as a site, build/site/index.html (ARGS=--external: list the addresses it links to)
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict && python docs/site/link_check.py build/site $(ARGS)

format: $(VENV)/.dev ## format the code
	@ruff check --fix . && ruff format . && snakefmt Snakefile workflow

verify: named-study $(VENV)/.run ## whether your verdicts and headline values are those of the reference of CONFIG's study, in docs/results
	@PYTHONPATH=src python workflow/scripts/verify.py --results results/$(STUDY)/tables --reference $(REFERENCE)/tables

compare: $(VENV)/.run ## two studies side by side: make compare A=results/one B=results/other (TO=FOLDER: where to write)
	@PYTHONPATH=src python workflow/scripts/compare.py $(if $(TO),--to $(call quoted,TO)) $(ARGS) -- $(call quoted,A) $(call quoted,B)

check: $(VENV)/.run ## compare every artefact of CONFIG's study with what was written
	@python workflow/check.py --configfile $(call quoted,CONFIG) $(ARGS)

accept: $(VENV)/.run ## keep an artefact that you edited on purpose: make accept FILE=results/...
	@python workflow/check.py --accept $(call quoted,FILE)

reference: named-study ## make the tables and figures of CONFIG's study the reference in docs/results, in place of those there
	@cd 'results/$(or $(STUDY),no study)' && ls tables/*.csv figures/*.png timings.csv >/dev/null && cd ../.. && \
	rm -f $(REFERENCE)/tables/*.csv $(REFERENCE)/figures/*.png
	@mkdir -p $(REFERENCE)/tables $(REFERENCE)/figures
	cp results/$(STUDY)/tables/*.csv $(REFERENCE)/tables/
	cp results/$(STUDY)/figures/*.png $(REFERENCE)/figures/
	cp results/$(STUDY)/timings.csv $(if $(filter default,$(STUDY)),docs,$(REFERENCE))/timings.csv

clean-study: named-study ## delete results/<study> of CONFIG
	rm -rf 'results/$(or $(STUDY),no study)'

named-study:
	@[ $(words $(STUDY)) = 1 ] || { printf 'error: %s has no study name: it needs one line like study: my-study\n' $(call quoted,CONFIG) >&2; exit 1; }
