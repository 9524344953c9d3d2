"""Which cells of a seed's sweeps are followed up: the targets of largest Δ_control of ASR on half of the direct
prompts.

--cells, --readout and --judged come in the order of params.checkpoints ({seed, regime, step, anchor}). params: targets
and controls (numbers), stats_seed. The choice lists the cells, each with the digest of what it does, and the direct
prompts of the other half, which score them.
"""

from _job import Job, explained

from safety_geometry.artefacts.per_checkpoint import by_checkpoint
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.causal.follow_up import choice_of, choose
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(__doc__, inputs=["cells*", "readout*", "judged*"], outputs=["choice"])
    params, checkpoints = job.params, [Checkpoint(**identity) for identity in job.params["checkpoints"]]
    cells = by_checkpoint(checkpoints, job.cells, read_table)
    judged = by_checkpoint(checkpoints, job.judged, read_table)
    readout = by_checkpoint(checkpoints, job.readout, read_table)
    with explained(ValueError, of="follow-up"):
        chosen = choose(cells, judged, params["targets"], params["controls"], params["stats_seed"], readout)
        choice = choice_of(chosen, cells, judged, params["stats_seed"])
    job.write_json(choice, job.choice)


if __name__ == "__main__":
    main()
