"""Reply inversion at one checkpoint: whether a request could cause harm, asked with the carriers removed and added.

params: model, checkpoint {seed, regime, step, anchor}, prompts {harmful, benign}, least_accuracy, batch_size,
stats_seed and draws of the bootstrap. A model that is at chance without edits is named on stderr. No text is written.
"""

import sys

from _job import Job, explained
from _model import batch_size, load, reported

from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.prompts import read_role
from safety_geometry.causal.reply_inversion import inversion_rows


def main() -> None:
    job = Job(__doc__, ["model", "adapter?", "carriers", "harmful", "benign"], ["reply_inversion"])
    loaded, params, checkpoint = load(job, job.adapter), job.params, job.params["checkpoint"]
    classes = [
        [row["prompt"] for row in read_role(getattr(job, label), params["prompts"][label])]
        for label in ("harmful", "benign")
    ]
    carriers, size = read_carriers(job.carriers, checkpoint["step"]), batch_size(job, "questions", params["batch_size"])
    bound, draws, seed = params["least_accuracy"], params["draws"], params["stats_seed"]
    with explained(ValueError, of="sweep.reply_inversion"), reported():
        rows = inversion_rows(loaded, *classes, carriers, size, bound, draws, seed)
    if rows[0]["at_chance"]:
        print("at chance without edits: no edits are made", file=sys.stderr)
    job.write_table([checkpoint | row for row in rows], job.reply_inversion)


if __name__ == "__main__":
    main()
