"""Directions from files as targets of the sweep at one checkpoint, beside the controls that H and R have.

--files come in the order of params.directions: {name: {name (in its file), position}}; a position that neither says is
-1, the last token. params: model, checkpoint {seed, regime, step, anchor}, those of Sweep.of, tested (names with a p),
prompts {harmful, benign}, openings, batch_size, tau, stats_seed, draws. No answers are given, and no text is written.
"""

from _job import Job, explained
from _model import batch_size, load, rendered

from safety_geometry.artefacts.activations import Activations
from safety_geometry.artefacts.carriers import read_carriers
from safety_geometry.artefacts.direction_files import read_direction
from safety_geometry.artefacts.prompts import read_role
from safety_geometry.causal.brought import brought_rows
from safety_geometry.models.openings import opening_ids


def main() -> None:
    inputs = ["model", "adapter?", "activations", "carriers", "harmful", "benign", "files*"]
    job = Job(__doc__, inputs, ["directions"])
    loaded, params = load(job, job.adapter), job.params
    rows = {name: read_role(getattr(job, name), params["prompts"][name]) for name in ("harmful", "benign")}
    prompts = {name: [prompt.ids for prompt in rendered(loaded, of_role)] for name, of_role in rows.items()}
    ids = {name: [row["id"] for row in of_role] for name, of_role in rows.items()}
    directions = {}
    for (name, spec), path in zip(params["directions"].items(), job.files, strict=True):
        with explained(of=f"sweep.directions.{name}"):
            direction = read_direction(path, spec.get("name"))
        position = spec.get("position", -1 if direction.position is None else direction.position)
        directions[name] = direction, position
    with explained(ValueError, of="sweep.openings"):
        openings = opening_ids(loaded.chat, params["openings"], [row["prompt"] for row in rows["harmful"][:3]])
    pair, size = read_carriers(job.carriers, params["step"]), batch_size(job, "readout", params["batch_size"])
    rest = size, params["tau"], params["stats_seed"], params["draws"]
    with explained(ValueError, of="sweep.directions"):
        read = (params, loaded, pair, Activations(job.activations), prompts, ids, openings, directions)
        found = list(brought_rows(*read, *rest))
    job.write_table([params["checkpoint"] | row for row in found], job.directions)


if __name__ == "__main__":
    main()
