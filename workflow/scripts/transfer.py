"""Answers of target checkpoints to the attacks made on one source.

The source answers all of its attacks, the other targets those on the first behaviours. What a target has answered is kept in a folder
beside --completions (private), so that a new target asks only that one. params: model, source, targets (regime:step, in the
order of --model; --adapters are those of the targets that are not in `whole`), whole, behaviours, max_new_tokens, batch_size. Rows are
those of complete.py, `arm` is attack@regime:step.
"""

import hashlib
import json
from pathlib import Path

from _completions import completion_row
from _job import Job, JobError, read_jsonl, recorded_digest
from _model import batch_size, load, progress, recall
from _store import UnitStore

from safety_geometry.generation import generate


def main() -> None:
    job = Job(__doc__, inputs=["model*", "adapters*", "attacks*"], outputs=["completions"])
    p = job.params
    attacks = [row for path in job.attacks for row in read_jsonl(path)]
    first = list(dict.fromkeys(row["id"] for row in attacks))[: p["behaviours"]]
    store = UnitStore(job.completions.with_suffix(".store"))
    bar, keys, out = progress(len(p["targets"]), "targets"), [], []
    for target, files in weights(job).items():
        asked = [row for row in attacks if target == p["source"] or row["id"] in first]
        keys.append(key_of(job, files, asked))
        found = store.get(keys[-1])
        if found is None:
            found = {"rows": answers(job, files, target, asked)}
            found |= {"layout_changed": changed} if (changed := job.layout_changed()) else {}
            store.put(keys[-1], found)
        recall(job, found.get("layout_changed", {}))
        out += found["rows"]
        bar(1)
    job.write_jsonl(out, job.completions)
    store.keep(keys)


def weights(job: Job) -> dict[str, tuple[Path, Path | None]]:
    """Target -> its model folder, and its adapter where it has one."""
    targets, whole = job.params["targets"], job.params.get("whole", [])
    if (len(job.model), len(job.adapters)) != (len(targets), len(targets) - len(whole)):
        raise JobError(
            f"{len(job.model)} models and {len(job.adapters)} adapters for {len(targets)} targets, {len(whole)} of them whole"
        )
    adapters = iter(job.adapters)
    return {t: (model, None if t in whole else next(adapters)) for t, model in zip(targets, job.model, strict=True)}


def answers(job: Job, files: tuple[Path, Path | None], target: str, asked: list[dict]) -> list[dict]:
    (folder, adapter), p = files, job.params
    loaded = load(job, adapter, folder)
    prompts = [r.ids for r in loaded.chat.render_many([row["prompt"] for row in asked])]
    found = generate(
        loaded.runner,
        prompts,
        loaded.chat.stop_ids,
        p["max_new_tokens"],
        batch_size(job, "answers", p["batch_size"]),
        loaded.chat.n_prefix,
    )
    rows = [row | {"arm": f"{row['arm']}@{target}"} for row in asked]
    return [
        completion_row(f"{row['arm']}:{row['id']}", "transfer", row, answer, loaded.tokenizer)
        for row, answer in zip(rows, found, strict=True)
    ]


def key_of(job: Job, files: tuple[Path, Path | None], asked: list[dict]) -> str:
    """Key of a target's answers: everything that they depend on."""
    settings = {name: job.params[name] for name in ("model", "max_new_tokens", "batch_size")}
    digests = [recorded_digest(path) for path in files if path is not None]
    whole = [settings, digests, job.code, [[row["arm"], row["id"], row["prompt"]] for row in asked]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main()
