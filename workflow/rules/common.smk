import re
from pathlib import Path

from pipeline import at_work
from pipeline.config_file import checked_study, take_out
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.damage import name_in_advice
from pipeline.devices import POOL, given_gpus
from pipeline.home import PREFIX
from pipeline.layout import filled
from pipeline.progress import Outlook
from pipeline.snakemake_internals import (
    given_config,
    given_config_files,
    given_cores,
    given_resource,
    is_main_process,
    look_once_a_time_span,
    makes_environments,
    planned_jobs,
    runs_here,
)
from pipeline.stages import Stages, tables
from pipeline.study import Study
from snakemake.logging import logger

if not home.imported:
    look_once_a_time_span()
    name_in_advice(Path(next(iter(given_config_files(workflow)), "config.yaml")), ROOT)
    shell.prefix(PREFIX)
for key in ("seeds", "light_seeds"):
    # --config 'seeds=[42]' brings them as text; that of an importer may mean something else by the name.
    if isinstance(given_config(workflow).get(key), list) and isinstance(config.get(key), list):
        config[key] = [int(s) if re.fullmatch("[0-9]+", str(s)) else s for s in config[key]]
take_out(config)
study = checked_study(config, layers) if is_main_process(workflow) else Study(config)
layout = study.layout
# Of the GPU's memory, for each core that a job takes.
share = given_resource(workflow, POOL) // (given_cores(workflow) or 1)
facts = Facts(study, read_rates(config["model"]["device"], ROOT), home.study(config["study"]))
stages = Stages(study, facts, ROOT, share, home)


onstart:  # not of importers, nor of dry runs, reports and --unlock, nor of the Snakemakes within jobs
    here, jobs = runs_here(workflow), planned_jobs(workflow)
    at_work.enter(submits=not here)
    # Jobs that are submitted find their GPU elsewhere; what needs none (the prompt sets, on a login node) runs without.
    needed = here and not makes_environments(workflow) and any(job.resources.get(POOL) for job in jobs)
    card = given_gpus(config["model"]["device"]) if needed else None
    device = card.describe() if card else config["model"]["device"]
    outlook = Outlook.of(config, Path(layout.root), jobs, stages.need, workflow.cores if here else None, device)
    logger.info(f"Study {outlook.study} on {outlook.device}", extra={"outlook": outlook})  # for the logger plugin


wildcard_constraints:
    seed=r"\d+",
    step=r"\d+",
    regime=r"[a-z][a-z0-9_]*",
    name=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    figure="[a-z_]+",


def one_of(names):
    """The pattern of a wildcard that is one of these."""
    return "|".join(map(re.escape, names)) or "(?!)"


def others(names, pattern):
    """The pattern without these."""
    return f"(?!(?:{one_of(names)})(?:/|$))(?:{pattern})" if names else pattern


def reported(name):
    """A table that the report shows."""
    return report(layout.table(name), **tables.shown(name))


def weights(wc):
    """Model, and adapter where there is one, of a checkpoint."""
    return layout.weights(wc.regime, int(wc.step), wc.seed)


def light_weights(wc):
    """The same for the script that takes several adapters."""
    files = weights(wc)
    return {"model": files["model"], "adapters": [files["adapter"]] if "adapter" in files else []}


def swept(wc):
    """Model, adapter (where there is one), activations and carriers of a swept checkpoint."""
    files = {"activations": layout.anchor_activations, "carriers": layout.carriers}
    return weights(wc) | {name: filled(path, wc.seed, wc.regime, wc.step) for name, path in files.items()}


def asked(wc):
    """Checkpoints that are asked the attacks of a source, and these attacks."""
    targets = study.attack_targets(wc.regime, int(wc.step))
    methods = study.methods(wc.regime, int(wc.step))
    return {
        "model": [layout.model(*target) for target in targets],
        "adapters": [filled(folder, wc.seed) for target in targets for folder in layout.adapter(*target)],
        "attacks": [filled(layout.attacks(method), wc.seed, wc.regime, wc.step) for method in methods],
    }
