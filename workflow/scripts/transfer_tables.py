"""The attacks of all sources with their success, their transfer, and what predicts it.

--judged comes in the order of params.sources ({seed, regime, step}): the answers of all targets to a source's attacks.
params: sources, fixed_source (regime:step), untrained (trajectories that are the same under every seed), stats_seed and
draws of the bootstrap.
"""

import pandas as pd
from _job import Job, explained

from safety_geometry.artefacts.per_checkpoint import by_checkpoint
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.tables.working import ATTACK_PARTS
from safety_geometry.attacks.transfer import attacks_table, judged_attacks, transfer_predictors, transfer_table
from safety_geometry.claims.tables import stack
from safety_geometry.settings.identity import Checkpoint


def main() -> None:
    job = Job(
        __doc__, inputs=["attacks_parts*", "judged*", "trajectory", "coupling", "geometry"],
        outputs=["attacks", "transfer", "transfer_predictors"],
    )  # fmt: skip
    params, sources = job.params, [Checkpoint(**source) for source in job.params["sources"]]
    by_source = by_checkpoint(sources, job.judged, read_table)
    others = [read_table(path) for path in (job.trajectory, job.coupling, job.geometry)]
    parts = [read_table(path, ATTACK_PARTS) for path in job.attacks_parts]
    with explained(ValueError, of="transfer"):
        answers = [
            judged_attacks(frame, source.seed, source.regime, source.step) for source, frame in by_source.items()
        ]
        judged = pd.concat(answers, ignore_index=True)
        attacks = attacks_table(stack(parts, []), judged, params["fixed_source"])
        transfer = transfer_table(judged, params["fixed_source"])
        predictors = transfer_predictors(
            transfer, *others, seed=params["stats_seed"], draws=params["draws"], untrained=params["untrained"]
        )
    job.write_table(attacks, job.attacks)
    job.write_table(transfer, job.transfer)
    job.write_table(predictors, job.transfer_predictors)


if __name__ == "__main__":
    main()
