"""safety-geometry: from a base model to the coupling of its harmfulness and refusal carriers under fine-tuning."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))  # where `pipeline` is
from pipeline.snakemake_internals import given_config_files
from pipeline.strict_yaml import read_keys

if set("{}") & set(str(workflow.basedir)):
    raise SystemExit(
        f"error: Snakemake takes the braces in {workflow.basedir} for wildcards; move the project out of that folder"
    )

# Snakemake keeps the last of two keys and reads 010 as 8; here that ends the start.
for file in given_config_files(workflow) or [Path("config.yaml")]:
    read_keys(file)

if not given_config_files(workflow):

    configfile: "config.yaml"


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
