"""AutoDAN attacks on a source checkpoint, and the unoptimised seeds that they started from.

--behaviours are requests with their affirmative targets; a killed job goes on from the generation it had reached. params: model,
seed, source, behaviours, seeds (how many of --seeds), autodan. The prompts go to --attacks (private) in two arms, autodan and
seeds; --table carries ids and numbers only.
"""

import math
import time

import pandas as pd
from _job import Job, JobError, read_jsonl
from _model import batch_size, load, progress
from _store import UnitStore, job_key

from safety_geometry.adversarial import derived_seed
from safety_geometry.autodan import AutoDANConfig, AutoDANResult, autodan


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours", "seeds", "synonyms"], outputs=["attacks", "table"])
    loaded, p = load(job, job.adapter), job.params
    config = AutoDANConfig(**p["autodan"])
    rows = read_jsonl(job.behaviours)[: p["behaviours"]]
    seeds = [row["text"] for row in read_jsonl(job.seeds)[: p["seeds"]]]
    synonyms = {row["word"]: row["synonyms"] for row in read_jsonl(job.synonyms)}
    store = UnitStore(job.attacks.with_suffix(".store"))
    bar, attacks, table = progress(len(rows), "attacks"), [], []
    size = batch_size(job, "AutoDAN's prompts", config.batch_size)
    for row in rows:
        started, key = time.perf_counter(), job_key(job, behaviour=row["id"])
        try:
            result = autodan(
                loaded.runner, loaded.chat, row["prompt"], row["target"], seeds, synonyms, config,
                derived_seed(p["seed"], "autodan", row["id"]), state=store.get(key), save=lambda s, k=key: store.put(k, s),
                batch=size,
            )  # fmt: skip
        except ValueError as error:
            raise JobError(f"AutoDAN on {row['id']}: {error}") from error
        for arm, prompt in (("autodan", result.prompt), ("seeds", result.seed_prompt)):
            if result.stopped != "unusable":
                attacks.append(
                    {"id": row["id"], "arm": arm, "request": row["prompt"], "prompt": prompt, "target": row["target"]}
                )
        table.append(numbers(p, config, row["id"], result, size.rows))
        print(
            f"{row['id']}: loss {result.seed_loss:.3f} -> {result.loss:.3f}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        bar(1)
    job.write_jsonl(attacks, job.attacks)
    with job.publish(job.table) as scratch:  # the table `attacks` without success, which is not known yet
        pd.DataFrame(table).to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")
    store.keep([])


def numbers(p: dict, config: AutoDANConfig, behaviour: str, result: AutoDANResult, rows: int) -> dict:
    """Row of the table; `rows`: of a forward pass, when the attack was done."""
    usable = result.stopped != "unusable"
    return {
        "seed": p["seed"], "attack": "autodan", "source": p["source"], "behaviour": behaviour, "budget_steps": config.steps,
        "width": config.population, "steps": max(0, len(result.losses) - 1), "loss_start": result.seed_loss if usable else math.nan,
        "loss": result.loss if usable else math.nan, "candidates": result.evaluated, "rejected": result.dropped,
        "tokens": result.tokens, "batch_size": rows, "stopped": result.stopped,
    }  # fmt: skip


if __name__ == "__main__":
    main()
