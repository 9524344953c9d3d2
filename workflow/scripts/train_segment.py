"""One segment of a regime's training: from the state at its start to the state at its end, with the saves between.

params: model, base_name and the fields of training.segment.Segment. --state and --progress are those of the segment
before, unless start is 0. --answers are the monitor's (private). `accelerate launch` shares the work among processes.
"""

import os
import sys

from _job import Job, explained
from _model import batch_size, load, reported

from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.artefacts.training_log import StepLog, write_answers
from safety_geometry.artefacts.training_state import read_state, write_progress, write_tensors
from safety_geometry.attacks.gcg.suffix import SuffixError
from safety_geometry.models.loading import save_adapter
from safety_geometry.models.processes import Ranks, RanksError, launched
from safety_geometry.training.segment import ROWS, UNUSABLE, Segment, make_trainer, train_to

OUTPUTS = ("adapters*", "new_state", "new_progress", "log", "answers")
FIX = "; choose another pool.gcg.init, or other prompts for role train_pool"


def main() -> None:
    job = Job(__doc__, ["model", *ROWS, "state?", "progress?"], OUTPUTS)
    of, sharded = f"regime {job.params['regime']}", os.environ.get("ACCELERATE_USE_FSDP") == "true"
    suffix, unusable = explained(SuffixError, of=of, fix=FIX), explained(RanksError, *UNUSABLE, of=of)
    with suffix, unusable, launched(job.params["model"]["device"], sharded) as ranks:
        train(job, Segment.of(job.params), ranks)


def train(job: Job, segment: Segment, ranks: Ranks) -> None:
    if ranks.world > 1:
        job.params |= {"processes": ranks.world, "sharded": ranks.sharded}  # for the record: they change the rounding
    loaded = load(job, device="cpu" if ranks.sharded else None)
    rows = {name: read_jsonl(getattr(job, name)) for name in ROWS}
    with reported():
        trainer, job.batches = make_trainer(loaded, segment, rows, ranks, job.params["model"]["device"], job.grows)
    if segment.start:
        trainer.restore(*read_state(job.state, job.progress))

    def on_step(line: StepLog) -> None:
        print(f"step {line.step}/{segment.stop}: {line.summary}", file=sys.stderr, flush=True)
        if line.step in segment.saves:
            folder = job.adapters[segment.saves.index(line.step)]
            job.write(folder, save_adapter, trainer.model, job.params["base_name"])

    monitor = batch_size(job, "monitor's answers", segment.monitor.batch_size)
    log, answers = train_to(trainer, segment, loaded, rows, monitor, on_step)
    if ranks.first:
        tensors, progress = trainer.state()
        job.write(job.new_state, write_tensors, tensors)
        job.write(job.new_progress, write_progress, progress)
        job.write_table(segment.rows(log), job.log)
        job.write(job.answers, write_answers, answers)


if __name__ == "__main__":
    main()
