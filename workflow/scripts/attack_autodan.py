"""AutoDAN attacks on a source checkpoint, and the unoptimised seeds that they started from.

--behaviours are requests with their affirmative targets; a killed job goes on from the generation it had reached.
params: model, seed, source, behaviours, seeds (how many of --seeds), autodan. The prompts go to --attacks (private) in
two arms, autodan and seeds; --table carries ids and numbers only.
"""

import time

from _job import Job, explained
from _model import batch_size, load, progress

from safety_geometry.artefacts.attacks import attack
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.artefacts.prompts import read_behaviours
from safety_geometry.artefacts.unit_store import UnitStore, content_key
from safety_geometry.attacks.autodan.search import AutoDANConfig, autodan, numbers
from safety_geometry.stats.seeds import derived_seed


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours", "seeds", "synonyms"], outputs=["attacks", "table"])
    loaded, params = load(job, job.adapter), job.params
    config = AutoDANConfig(**params["autodan"])
    rows = read_behaviours(job.behaviours, params["behaviours"])
    seeds = [row["text"] for row in read_jsonl(job.seeds, ["text"])[: params["seeds"]]]
    synonyms = {row["word"]: row["synonyms"] for row in read_jsonl(job.synonyms, ["word", "synonyms"])}
    store, facts = UnitStore(job.attacks.with_suffix(".store")), job.facts(job.inputs, params)
    bar, attacks, table = progress(len(rows), "attacks"), [], []
    size = batch_size(job, "AutoDAN's prompts", config.batch_size)
    for row in rows:
        started, key = time.perf_counter(), content_key(facts, row["id"])
        with explained(ValueError, of=f"AutoDAN on {row['id']}"):
            result = autodan(
                loaded.runner, loaded.chat, row["prompt"], row["target"], seeds, synonyms, config,
                derived_seed(params["seed"], "autodan", row["id"]), state=store.get(key),
                save=lambda state, key=key: store.put(key, state), batch=size,
            )  # fmt: skip
        if result.usable:
            attacks += [attack(row, "autodan", result.prompt), attack(row, "seeds", result.seed_prompt)]
        about = {"seed": params["seed"], "attack": "autodan", "source": params["source"], "behaviour": row["id"]}
        table.append(about | numbers(loaded.runner, config, result, size.rows))
        seconds = time.perf_counter() - started
        print(f"{row['id']}: loss {result.seed_loss:.3f} -> {result.loss:.3f}, {seconds:.0f} s", flush=True)
        bar(1)
    job.write_jsonl(attacks, job.attacks)
    job.write_table(table, job.table, "attack_parts")
    store.keep([])


if __name__ == "__main__":
    main()
