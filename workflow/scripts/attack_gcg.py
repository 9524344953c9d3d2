"""GCG attacks on a source checkpoint: made once, frozen, and asked of other checkpoints.

The search stops on its loss, never on a judge; the final loss is recomputed without the prefix cache. All cases are attacked
together, and a killed job goes on with the step it was in. params: model, seed, source, behaviours, gcg. The suffixes go to
--attacks (private); --table carries ids and numbers only. Seconds are in the log and in the rule's benchmark file.
"""

import sys
import time

import pandas as pd
from _job import Job, JobError, read_jsonl
from _model import load, progress
from _store import UnitStore, job_key

from safety_geometry.adversarial import derived_seed
from safety_geometry.gcg import GCGConfig, attack_many
from safety_geometry.gcg_batches import BatchSize
from safety_geometry.gcg_losses import CacheError, uncached_loss
from safety_geometry.gcg_scoring import check_cache
from safety_geometry.runner import ContextError
from safety_geometry.suffix import SuffixError, allowed_tokens, initial_suffix


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours"], outputs=["attacks", "table"])
    loaded, p = load(job, job.adapter), job.params
    config = GCGConfig(**p["gcg"])
    rows = read_jsonl(job.behaviours)[: p["behaviours"]]
    starts = [started(loaded.chat, row, config) for row in rows]
    results = searched(job, loaded, rows, starts, config)
    attacks, table = [], []
    for row, start, result in zip(rows, starts, results, strict=True):
        for arm, suffix in (("gcg", result.suffix), ("gcg_init", start)):
            attacks.append(
                {
                    "id": row["id"],
                    "arm": arm,
                    "request": row["prompt"],
                    "prompt": suffix.prompt,
                    "target": row["target"],
                }
            )
        first = result.losses[0] if config.mellowmax is None else uncached_loss(loaded.runner, start)
        table.append({
            "seed": p["seed"], "attack": "gcg", "source": p["source"], "behaviour": row["id"], "budget_steps": config.steps,
            "width": config.width, "steps": len(result.losses) - 1, "loss_start": first, "loss": result.loss,
            "candidates": result.scored, "rejected": result.rejected, "tokens": result.tokens, "batch_size": result.batch_size,
            "stopped": result.stopped,
        })  # fmt: skip
        print(f"{row['id']}: loss {first:.3f} -> {result.loss:.3f} ({result.stopped})", flush=True)
    job.write_jsonl(attacks, job.attacks)
    with job.publish(job.table) as scratch:  # the table `attacks` without success, which is not known yet
        pd.DataFrame(table).to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")
    UnitStore(job.attacks.with_suffix(".store")).keep([])


def started(chat, row: dict, config: GCGConfig):
    try:
        return initial_suffix(chat, row["prompt"], row["target"], config.init, config.suffix_length)
    except SuffixError as error:
        raise JobError(f"attacks.gcg on {row['id']}: {error}") from error


def searched(job: Job, loaded, rows: list[dict], starts: list, config: GCGConfig) -> list:
    """The attacks on all cases, going on from a saved state if there is one."""
    allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    store, key = UnitStore(job.attacks.with_suffix(".store")), job_key(job)
    batch = BatchSize.on(loaded.runner.device, config.batch_size)
    job.batches.extend(batch.both)
    state = store.get(key)
    if state is not None:
        print(f"going on after step {state['step']} of {config.steps}", file=sys.stderr, flush=True)
    seeds = [derived_seed(job.params["seed"], "attack", row["id"]) for row in rows]
    bar, begun = progress(len(rows) * max(1, config.steps), "attack steps"), time.perf_counter()
    try:
        loaded.runner.check_context([len(start.ids) for start in starts], names=[row["id"] for row in rows])
        check_cache(loaded.runner, starts[0], int(allowed.nonzero()[0]))
        results = attack_many(
            loaded.runner, loaded.chat, starts, config, allowed, seeds, progress=lambda *_: bar(1), state=state,
            save=lambda now: store.put(key, now), batch=batch,
        )  # fmt: skip
    except (CacheError, ContextError) as error:
        raise JobError(f"source {job.params['source']}: {error}") from error
    seconds, tokens = time.perf_counter() - begun, sum(r.tokens for r in results)
    print(f"{len(rows)} attacks in {seconds:.0f} s, {tokens} tokens", flush=True)
    return results


if __name__ == "__main__":
    main()
