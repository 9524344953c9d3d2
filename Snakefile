"""safety-geometry: from a base model to the coupling of its harmfulness and refusal carriers under fine-tuning."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))  # where `pipeline` is
from pipeline.config_file import read_layers
from pipeline.snakemake_internals import given_config, given_config_files, is_main_process

if set("{}") & set(str(workflow.basedir)):
    raise SystemExit(
        f"error: Snakemake takes the braces in {workflow.basedir} for wildcards; move the project out of that folder"
    )

# Snakemake keeps the last of two keys and reads 010 as 8; here that ends the start. Jobs take what the start has checked.
layers = {}
if is_main_process(workflow):
    layers = read_layers(given_config_files(workflow), given_config(workflow))


# What a study's own file (--configfile) leaves out; Snakemake lays that over it, and --config over both.
configfile: str(Path(workflow.basedir) / "config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/geometry.smk"
include: "workflow/rules/behaviour.smk"
include: "workflow/rules/judges.smk"
include: "workflow/rules/causal.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/tables.smk"


rule all:
    default_target: True
    input:
        [layout.table(name) for name in tables.all_tables(study)],
        [layout.figure(name, kind) for name in tables.figures(study) for kind in ("svg", "png")],
    localrule: True
