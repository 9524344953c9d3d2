"""Answers of target checkpoints to the attacks made on one source.

The source answers all of its attacks, the other targets those on the first behaviours. What a target has answered to a method's attacks is
kept in a folder beside --completions (private), so that a new target asks only that one, and another budget of one method asks
nothing of the other anew: each file of --attacks has batches of its own. params: model, source, targets (regime:step, in the
order of --model; --adapters are those of the targets that are not in `whole`), whole, behaviours, max_new_tokens, batch_size. Rows are
those of complete.py, `arm` is attack@regime:step.
"""

import hashlib
import json
from pathlib import Path

from _completions import completion_row
from _integrity import content_digest
from _job import Job, JobError, read_jsonl
from _model import Loaded, batch_size, load, progress, recall, rendered
from _store import UnitStore

from safety_geometry.generation import generate


def main() -> None:
    job = Job(__doc__, inputs=["model*", "adapters*", "attacks*"], outputs=["completions"])
    p = job.params
    methods = [rows for path in job.attacks if (rows := read_jsonl(path))]
    store = UnitStore(job.completions.with_suffix(".store"))
    bar, keys, out = progress(len(p["targets"]), "targets"), [], []
    for target, files in weights(job).items():
        loaded = None
        for attacks in methods:
            asked = asked_of(target, attacks, p)
            keys.append(key_of(job, files, asked))
            found = store.get(keys[-1])
            if found is None:
                loaded = loaded or load(job, adapter=files[1], folder=files[0])
                found = answered(job, loaded, target, asked)
                store.put(keys[-1], found)
            recall(job, found.get("layout_changed", {}))
            out += found["rows"]
        bar(1)
    job.write_jsonl(out, job.completions)
    store.keep(keys)


def asked_of(target: str, attacks: list[dict], p: dict) -> list[dict]:
    """What a target is asked of one method's attacks: the source all of them, another those on the first behaviours."""
    first = list(dict.fromkeys(row["id"] for row in attacks))[: p["behaviours"]]
    return [row for row in attacks if target == p["source"] or row["id"] in first]


def weights(job: Job) -> dict[str, tuple[Path, Path | None]]:
    """Target -> its model folder, and its adapter where it has one."""
    targets, whole = job.params["targets"], job.params.get("whole", [])
    if (len(job.model), len(job.adapters)) != (len(targets), len(targets) - len(whole)):
        raise JobError(
            f"{len(job.model)} models and {len(job.adapters)} adapters for {len(targets)} targets, {len(whole)} of them whole"
        )
    adapters = iter(job.adapters)
    return {t: (model, None if t in whole else next(adapters)) for t, model in zip(targets, job.model, strict=True)}


def answered(job: Job, loaded: Loaded, target: str, asked: list[dict]) -> dict:
    """`rows` of a target's answers to one method's attacks, in batches of their own, and `layout_changed` where memory was short."""
    size = batch_size(job, f"answers to {asked[0]['arm']}", job.params["batch_size"])
    prompts = [r.ids for r in rendered(loaded, asked, job.params["max_new_tokens"])]
    found = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, job.params["max_new_tokens"], size, loaded.chat.n_prefix
    )
    rows = [
        completion_row(
            f"{row['arm']}@{target}:{row['id']}",
            "transfer",
            row | {"arm": f"{row['arm']}@{target}"},
            answer,
            loaded.tokenizer,
        )
        for row, answer in zip(asked, found, strict=True)
    ]
    return {"rows": rows} | ({"layout_changed": changed} if (changed := job.layout_changed()) else {})


def key_of(job: Job, files: tuple[Path, Path | None], asked: list[dict]) -> str:
    """Key of a target's answers to one method's attacks: everything that they depend on, and nothing of another method."""
    settings = {name: job.params[name] for name in ("model", "max_new_tokens", "batch_size")}
    digests = [content_digest(path) for path in files if path is not None]
    whole = [settings, digests, job.code, [[row["arm"], row["id"], row["prompt"]] for row in asked]]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main()
