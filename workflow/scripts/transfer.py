"""Answers of target checkpoints to the attacks made on one source.

The source answers all of its attacks, the other targets those on the first behaviours. What a target has answered to a
method's attacks is kept in a folder beside --completions (private), so that a new target asks only that one, and
another
budget of one method asks nothing of the other anew: each file of --attacks has batches of its own. params: model,
source, targets (regime:step, in the order of --model; --adapters are those of the targets that are not in `whole`),
whole, behaviours, max_new_tokens, batch_size. Rows are those of complete.py, `arm` is attack@regime:step.
"""

from _job import Job, JobError
from _model import batch_size, load, progress, recalled, rendered

from safety_geometry.artefacts.attacks import of_first, read_attacks
from safety_geometry.artefacts.integrity import content_digest
from safety_geometry.artefacts.unit_store import UnitStore, content_key
from safety_geometry.models.answers import complete, completion_row
from safety_geometry.settings.attack_arm import AttackArm, Place


def main() -> None:
    job = Job(__doc__, inputs=["model*", "adapters*", "attacks*"], outputs=["completions"])
    params, facts = job.params, job.facts((), ("model", "max_new_tokens", "batch_size"))
    targets, whole, limit = params["targets"], params.get("whole", []), params["max_new_tokens"]
    if (len(job.model), len(job.adapters)) != (len(targets), len(targets) - len(whole)):
        files = f"{len(job.model)} models and {len(job.adapters)} adapters"
        raise JobError(f"{files} for {len(targets)} targets, {len(whole)} of them whole")
    adapters, methods = iter(job.adapters), [rows for path in job.attacks if (rows := read_attacks(path))]
    store = UnitStore(job.completions.with_suffix(".store"))
    bar, keys, completions = progress(len(targets), "targets"), [], []
    for target, folder in zip(targets, job.model, strict=True):
        adapter, loaded = None if target in whole else next(adapters), None
        weights = [content_digest(path) for path in (folder, adapter) if path is not None]
        for method in methods:
            attacks = method if target == params["source"] else of_first(method, params["behaviours"])
            keys.append(content_key(facts, weights, [[row["arm"], row["id"], row["prompt"]] for row in attacks]))
            result = store.get(keys[-1])
            if result is None:
                loaded = loaded or load(job, adapter=adapter, folder=folder)
                size = batch_size(job, f"answers to {attacks[0]['arm']}", params["batch_size"])
                rows, answers = [], complete(loaded, rendered(loaded, attacks, limit), limit, size)
                for row, answer in zip(attacks, answers, strict=True):
                    arm = AttackArm(row["arm"], Place.parse(target)).text
                    rows.append(completion_row(f"{arm}:{row['id']}", "transfer", row | {"arm": arm}, answer, loaded))
                result = {"rows": rows, "layout_changed": job.layout_changed()}
                store.put(keys[-1], result)
            recalled(job, {target: result})
            completions += result["rows"]
        bar(1)
    job.write_jsonl(completions, job.completions)
    store.keep(keys)


if __name__ == "__main__":
    main()
