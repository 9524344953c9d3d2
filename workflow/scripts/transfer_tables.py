"""The attacks of all sources with their success, their transfer, and what predicts it.

--judged comes in the order of params.sources ({seed, regime, step}): the answers of all targets to a source's attacks.
params: sources, fixed_source (regime:step), untrained (trajectories that are the same under every seed), stats_seed and draws of the bootstrap.
"""

import pandas as pd
from _job import Job, JobError
from _per_checkpoint import by_checkpoint, read_judged
from _read import read_table

from safety_geometry.tables import Checkpoint, stack
from safety_geometry.transfer import ARMS, identified, transfer_predictors, transfer_table


def main() -> None:
    job = Job(
        __doc__, inputs=["attacks_parts*", "judged*", "trajectory", "coupling", "geometry"],
        outputs=["attacks", "transfer", "transfer_predictors"],
    )  # fmt: skip
    p = job.params
    by_source = by_checkpoint(p["sources"], job.judged, read_judged)
    judged = pd.concat([answers(frame, source) for source, frame in by_source.items()], ignore_index=True)
    others = [read_table(path) for path in (job.trajectory, job.coupling, job.geometry)]
    try:
        attacks = identified(stack([pd.read_csv(path) for path in job.attacks_parts], []), p["fixed_source"])
        attacks = with_success(attacks, judged)
        transfer = transfer_table(judged, p["fixed_source"])
        predictors = transfer_predictors(
            transfer, *others, seed=p["stats_seed"], draws=p["draws"], untrained=p["untrained"]
        )
    except ValueError as error:
        raise JobError(f"transfer: {error}") from error
    job.write_table(attacks, job.attacks)
    job.write_table(transfer, job.transfer)
    job.write_table(predictors, job.transfer_predictors)


def answers(judged: pd.DataFrame, source: Checkpoint) -> pd.DataFrame:
    """Judged attacks of one source: the arm says which attack was asked of whom, as `attack@regime:step`."""
    parts = judged["arm"].str.extract(r"^(?P<attack>\w+)@(?P<target_regime>\w+):(?P<target_step>\d+)$")
    return parts.astype({"target_step": int}).assign(
        seed=source.seed, source_regime=source.regime, source_step=source.step,
        behaviour=judged["prompt_id"], success=judged["attack_success"].astype(bool),
    )  # fmt: skip


def with_success(attacks: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """The attacks with `success` and `success_start`: of the attack and of its unoptimised arm on the source itself."""
    own = judged[
        (judged["source_regime"] == judged["target_regime"]) & (judged["source_step"] == judged["target_step"])
    ]
    sources = own["source_regime"] + ":" + own["source_step"].astype(str)
    known = own.assign(source=sources).set_index(["seed", "attack", "source", "behaviour"])["success"]
    for name, arms in (("success", {attack: attack for attack in ARMS}), ("success_start", ARMS)):
        keys = zip(attacks["seed"], attacks["attack"].map(arms), attacks["source"], attacks["behaviour"], strict=True)
        attacks[name] = pd.array([known.get(key) for key in keys], dtype="boolean")
    return attacks


if __name__ == "__main__":
    main()
