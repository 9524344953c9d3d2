"""`make rehearse`: the papers' graph and shapes on this machine's GPU, each stage beside what was said of it.

Runs configs/rehearsal.yaml from the start (or goes on where it was stopped), one model job at a time, prints seconds,
memory and GPU memory of every stage with what the cost model said and how many times that is, and writes the table to
results/rehearsal/rehearsal.csv, from which `make plan-paper` tells its error.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from pipeline import ROOT
from pipeline.config_file import read_study
from pipeline.costs.facts import Facts
from pipeline.costs.rates import read_rates
from pipeline.costs.rehearsal import Rehearsal, shape_text, write_rehearsal
from pipeline.devices import given_gpus
from pipeline.stages import Stages
from plan_cost import comparison, origin, planned, took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--configfile", default="configs/rehearsal.yaml")
    parser.add_argument("--cores", type=int, default=2, help="of this machine")
    parser.add_argument("--device", help="name of a device in the rates files, instead of the first of its kind")
    options = parser.parse_args()
    os.chdir(ROOT)
    study = read_study(Path(options.configfile))
    model, root = study.config["model"], Path(study.layout.root)
    if model["device"].startswith("cuda"):  # what jobs that share a GPU take from each other would count as their own
        options.cores = min(options.cores, model["threads"])
    run = ["workflow/run.py", "--configfile", options.configfile, "--cores", str(options.cores)]
    if status := subprocess.run([sys.executable, *run], check=False).returncode:
        sys.exit(status)
    rates = read_rates(model["device"], ROOT, options.device)
    stages = Stages(study, Facts(study, rates, ROOT / root), ROOT)
    rows = took(stages, planned(Path(options.configfile), everything=True), root, stages.title)
    print(f"rates: {rates.name}, {origin(rates)}", "", *comparison(rows, "stage", stages.facts.on_gpu), sep="\n")
    card, shape = given_gpus(model["device"]), shape_text(stages.facts.base)
    name = "CPU" if card is None else card.name
    of_stages = [{"stage": row["rule"]} | row for row in rows]
    write_rehearsal(root / "rehearsal.csv", Rehearsal(of_stages, name, rates.name, shape, model["dtype"]))
    print(f"written to {root / 'rehearsal.csv'}")


if __name__ == "__main__":
    main()
