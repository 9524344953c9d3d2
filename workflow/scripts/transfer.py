"""Answers of target checkpoints to the attacks made on one source.

The source answers all of its attacks, the other targets those on the first behaviours. What a target has answered is kept in a folder
beside --completions (private), so that a new target asks only that one. params: model, source, targets (regime:step, in the
order of --adapters), behaviours, max_new_tokens, batch_size. Rows are those of complete.py, `arm` is attack@regime:step.
"""

import hashlib
import json
from pathlib import Path

from _completions import answer
from _job import Job, read_jsonl, recorded_digest
from _model import load, progress
from _store import UnitStore


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapters*", "attacks*"], outputs=["completions"])
    p = job.params
    attacks = [row for path in job.attacks for row in read_jsonl(path)]
    first = list(dict.fromkeys(row["id"] for row in attacks))[: p["behaviours"]]
    store = UnitStore(job.completions.with_suffix(".store"))
    bar, keys, out = progress(len(p["targets"]), "targets"), [], []
    for target, adapter in zip(p["targets"], job.adapters, strict=True):
        asked = [row for row in attacks if target == p["source"] or row["id"] in first]
        keys.append(key_of(job, adapter, asked))
        rows = store.get(keys[-1])
        if rows is None:
            rows = answers(job, adapter, target, asked)
            store.put(keys[-1], rows)
        out += rows
        bar(1)
    job.write_jsonl(out, job.completions)
    store.keep(set(keys))


if __name__ == "__main__":
    main()
