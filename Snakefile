"""safety-geometry: from a base model to the coupling of its harmfulness and refusal carriers under fine-tuning."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "lib"))
from strict_yaml import read_keys

if set("{}") & set(str(workflow.basedir)):
    raise SystemExit(
        f"error: Snakemake takes the braces in {workflow.basedir} for wildcards; move the project out of that folder"
    )

# Snakemake keeps the last of two keys and reads 010 as 8; here that ends the start.
for file in workflow.config_settings.configfiles or [Path("config.yaml")]:
    read_keys(Path(file))

if not workflow.config_settings.configfiles:

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
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        ALL_TABLES,
        ALL_FIGURES,
    localrule: True
