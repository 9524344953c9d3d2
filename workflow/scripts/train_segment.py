"""One segment of a regime's training: from the state at its start to the state at its end, with the saves between.

params: model, seed, regime, start, stop, saves, lora, train, pool (null for plain SFT), gcg, monitor {every, at_saves,
prompts, max_new_tokens, batch_size}. The state of the previous segment (--state, --progress) is needed unless start is 0.
--answers are the monitor's (private); they are judged where the training table is made.

Under `accelerate launch` the processes share the rows of a step and the candidates of the attacks, on GPUs one each; with
`--use_fsdp` they share the frozen weights as well. The files are those of one process but for rounding (and the dropout masks).
"""

import os
import sys

from _job import Job, JobError, read_jsonl
from _model import batch_size, load, said

from safety_geometry.artefacts.training_log import write_answers, write_log
from safety_geometry.artefacts.training_state import read_state, write_progress, write_tensors
from safety_geometry.attacks.gcg.search import GCGConfig
from safety_geometry.attacks.gcg.suffix import SuffixError
from safety_geometry.models.loading import save_adapter
from safety_geometry.models.processes import Ranks, RanksError, launched
from safety_geometry.models.runner import ContextError
from safety_geometry.training.loop import StepLog, TrainConfig
from safety_geometry.training.pool import CleanRowsError, PoolConfig
from safety_geometry.training.segment import MonitorConfig, make_trainer, train_to

ROLES = ("monitor_harmful", "monitor_benign")


def main() -> None:
    job = Job(
        __doc__,
        inputs=["model", "clean", "pool", *ROLES, "state?", "progress?"],
        outputs=["adapters*", "new_state", "new_progress", "log", "answers"],
    )
    try:
        with launched(job.params["model"]["device"], os.environ.get("ACCELERATE_USE_FSDP") == "true") as ranks:
            train(job, ranks)
    except RanksError as error:
        raise JobError(str(error)) from error
    except (CleanRowsError, ContextError) as error:
        raise JobError(f"regime {job.params['regime']}: {error}") from error
    except SuffixError as error:
        raise JobError(
            f"pool of {job.params['regime']}, {error}; choose another pool.gcg.init, or other prompts for role train_pool"
        ) from error


def train(job: Job, ranks: Ranks) -> None:
    """Every process does the same; the first one writes."""
    p, monitor, pool = job.params, MonitorConfig(**job.params["monitor"]), None
    if p["start"] and job.state is None:
        raise JobError(f"segment {p['start']}-{p['stop']} needs --state and --progress of the segment before it")
    if ranks.world > 1:
        p |= {"processes": ranks.world, "sharded": ranks.sharded}  # for the record: they change the rounding
    loaded = load(job, device="cpu" if ranks.sharded else None)
    if p["pool"] is not None:
        pool = PoolConfig(**p["pool"]), GCGConfig(**p["gcg"]), read_jsonl(job.pool)
    with said():
        trainer, batches = make_trainer(
            loaded, p["lora"], TrainConfig(**p["train"]), pool, read_jsonl(job.clean), p["max_length"], p["seed"], ranks,
            p["model"]["device"],
        )  # fmt: skip
    job.batches.extend(batches)
    if p["start"]:
        trainer.restore(*read_state(job.state, job.progress))
    adapters = dict(zip(p["saves"], job.adapters, strict=True))

    def on_step(line: StepLog) -> None:
        shown = " ".join(f"{name} {x:.3f}" for name, x in vars(line).items() if isinstance(x, float) and x == x)
        print(f"step {line.step}/{p['stop']}: {shown}", file=sys.stderr, flush=True)
        if line.step in adapters:
            with job.publish(adapters[line.step]) as scratch:
                save_adapter(trainer.model, scratch, p["base_name"])

    roles = {role: read_jsonl(getattr(job, role))[: monitor.prompts] for role in ROLES}
    size = batch_size(job, "monitor's answers", monitor.batch_size)
    log, answers = train_to(trainer, p["stop"], p["saves"], loaded, monitor, roles, size, on_step)
    if not ranks.first:
        return
    tensors, progress = trainer.state()
    for path, write, contents in (
        (job.new_state, write_tensors, [tensors]), (job.new_progress, write_progress, [progress]),
        (job.log, write_log, [p["seed"], p["regime"], log]), (job.answers, write_answers, [answers]),
    ):  # fmt: skip
        with job.publish(path) as scratch:
            write(scratch, *contents)


if __name__ == "__main__":
    main()
