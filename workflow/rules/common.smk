import json
import re
from pathlib import Path

import at_work
from code_digest import code_digest
from command import given_gpus, options, patterns
from config_file import checked_study
from costs.facts import Facts
from costs.jobs import RESOURCES, need, stated
from costs.rates import read_rates
from damage import name_in_advice
from layout import Layout
from params import Params
from scheduling import look_once_a_time_span

look_once_a_time_span()
ROOT = Path(workflow.basedir)
name_in_advice(Path(next(iter(workflow.config_settings.configfiles), "config.yaml")), ROOT)
if isinstance(workflow.config_settings.config.get("seeds"), list):  # --config 'seeds=[42]' brings them as text
    config["seeds"] = [int(s) if re.fullmatch("[0-9]+", str(s)) else s for s in config["seeds"]]
study = checked_study(config)
layout = Layout(study)
params_of = Params(study)
R, P = layout.root, layout.private  # harmful text stays below P
SEED, PSEED, BASE = layout.seed, layout.private_seed, layout.base
role = layout.role
facts = Facts(study, read_rates(config["model"]["device"], ROOT), ROOT / R)

# Model jobs read what the first rules fetched and ask no hub; fetch_source gets the user's own setting back.
shell.prefix(
    "set -euo pipefail; unset PYTHONDONTWRITEBYTECODE; export PYTHONUTF8=1 PYTHONPATH=src TOKENIZERS_PARALLELISM=false"
    " USER_HUB_OFFLINE=${{HF_HUB_OFFLINE:-0}} HF_HUB_OFFLINE=1; "
)


onstart:  # not of dry runs, reports and --unlock, nor of the Snakemakes within jobs
    at_work.enter(submits=not workflow.local_exec)
    # Jobs that are submitted find their GPU elsewhere, and what needs none (the prompt sets, on a login node) runs without.
    if workflow.local_exec and not workflow.deployment_settings.deployment_method:
        if any(job.resources.get("gpu_mem_mb") for job in workflow.dag.needrun_jobs()):
            given_gpus(config["model"]["device"])


wildcard_constraints:
    seed=r"\d+",
    step=r"\d+",
    regime=r"[a-z][a-z0-9_]*",
    name=r"[A-Za-z0-9][A-Za-z0-9_-]*",


def code(script):
    """Digest of a script and of all project code that it imports: what reruns its jobs after an edit."""
    return code_digest(ROOT, f"workflow/scripts/{script}.py")


def settings(**values):
    """What a script gets as --params."""
    return json.dumps(values)  # in the order of the configuration: roles are served in it


def always(value):
    """A param of a rule that is the same in all of its jobs. Snakemake looks for wildcards in one that is plain text, and a setting
    may hold braces; what a function gives it takes as it is, and compares with the last run all the same."""
    return lambda wildcards: value


def fixed(**values):
    """`settings` that are the same in all jobs of a rule."""
    return always(settings(**values))


def needs(rule):
    """Resources that the jobs of a rule state. Nothing reruns when they change, and local runs are not held back by them."""

    def resource(key):
        return lambda wc, attempt: stated(need(facts, rule, dict(wc.items())), attempt)[key]

    return {key: resource(key) for key in RESOURCES}


def reported(name, category):
    """A table that the report shows."""
    return report(layout.table(name), caption=f"../report/{name}.rst", category=category, labels={"table": name})


def weights(wc):
    """Model, and adapter where there is one, of a checkpoint."""
    return layout.weights(wc.regime, int(wc.step), wc.seed)


def swept_inputs(wc):
    """Model, adapter (where there is one), activations and carriers of a swept checkpoint."""
    found = {
        "activations": f"{SEED}/activations/{{regime}}/step{{step}}.safetensors",
        "carriers": f"{SEED}/carriers/{{regime}}/carriers.safetensors",
    }
    return weights(wc) | {key: path.format(**dict(wc.items())) for key, path in found.items()}


def named(wc, input):
    """The files of `weights` and `swept_inputs` as options of a script."""
    keys = ("model", "adapter", "activations", "carriers")
    return options({key: input[key] for key in keys if key in input.keys()})
