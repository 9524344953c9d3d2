"""The study's tables over all seeds and trajectories, from the tables of its checkpoints and the judged completions.

--judged comes in the order of params.judged ({seed, regime, step, anchor} of each file). A study that trains nothing
has no training tables. Behaviour in the trajectory is that of the same prompts at every save; in all other tables it is
that of all prompts. params: regimes (all trajectories, in order), judged, every_save (suite: rows that every save
answers), source (regime:step), aligned (a list of those), max_direct_asr, seed and draws of the bootstrap.
"""

from _job import Job, explained

from safety_geometry.artefacts.per_checkpoint import by_checkpoint
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.claims.tables import (
    behaviour_table,
    contrasts_table,
    first_rows,
    five_anchor_table,
    stack,
    trajectory_table,
)
from safety_geometry.judges.attack_arms import attack_arms_table, source_choice_table
from safety_geometry.settings.attack_arm import Place
from safety_geometry.settings.identity import Checkpoint

STACKED = ("coupling", "geometry", "coupling_controls", "profile", "selection", "separability")
MADE = ("behaviour", "contrasts", "trajectory", "five_anchor", "attack_arms", "source_choice")


def main() -> None:
    several = [f"{name}_parts*" for name in (*STACKED, "training")]
    job = Job(__doc__, inputs=[*several, "judged*"], outputs=[*STACKED, "training?", *MADE])
    params, tables, bootstrap = job.params, {}, (job.params["seed"], job.params["draws"])
    with explained(ValueError):
        for name in (*STACKED, "training") if job.training else STACKED:
            tables[name] = stack([read_table(path) for path in getattr(job, f"{name}_parts")], params["regimes"])
        checkpoints = [Checkpoint(**identity) for identity in params["judged"]]
        judged = by_checkpoint(checkpoints, job.judged, read_table)
        tables["behaviour"] = behaviour_table(judged, *bootstrap)
        tables["contrasts"] = contrasts_table(judged, params["regimes"], *bootstrap)
        tables["attack_arms"] = attack_arms_table(judged)
        aligned = [Place.parse(text) for text in params["aligned"]]
        source, most = Place.parse(params["source"]), params["max_direct_asr"]
        tables["source_choice"] = source_choice_table(tables["behaviour"], source, aligned, most)
        same = {checkpoint: first_rows(frame, params["every_save"]) for checkpoint, frame in judged.items()}
        tables["trajectory"] = trajectory_table(tables["coupling"], behaviour_table(same, *bootstrap))
        tables["five_anchor"] = five_anchor_table(trajectory_table(tables["coupling"], tables["behaviour"]))
    for name, frame in tables.items():
        job.write_table(frame, getattr(job, name))


if __name__ == "__main__":
    main()
