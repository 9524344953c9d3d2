"""Fixed-source GCG attacks: made once on a source checkpoint, frozen, and asked of every other checkpoint.

Behaviours that the source does not refuse when asked directly are left out. The search stops on its loss, never on a
judge; the final loss is recomputed without the prefix cache. All cases are attacked together, and a killed job goes on with
the step it was in. params: model, seed, source, behaviours, gcg, refusal_tokens, batch_size. The suffixes go to --attacks
(private); --table carries ids and numbers only. Seconds are in the log and in the rule's benchmark file.
"""

import sys
import time

import pandas as pd
from _job import Job, JobError, read_jsonl
from _model import load, progress
from _resume import Progress

from safety_geometry.adversarial import derived_seed
from safety_geometry.gcg import GCGConfig, attack_many
from safety_geometry.gcg_losses import CacheError, uncached_loss
from safety_geometry.gcg_scoring import check_cache
from safety_geometry.generation import generate
from safety_geometry.judges.refusal import classify
from safety_geometry.suffix import SuffixError, allowed_tokens, initial_suffix


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours"], outputs=["attacks", "table"])
    loaded, p = load(job, job.adapter), job.params
    config = GCGConfig(**p["gcg"])
    rows = read_jsonl(job.behaviours)
    if p["require_refusal"]:
        rows = refused(job, loaded, rows)
    rows = rows[: p["behaviours"]]
    if not rows:
        raise JobError(
            f"source {p['source']} refuses none of the behaviours asked directly: no fixed-source attack can be made on it"
        )
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
    job.write_table(pd.DataFrame(table), job.table)
    Progress(job, job.attacks).clear()


def started(chat, row: dict, config: GCGConfig):
    try:
        return initial_suffix(chat, row["prompt"], row["target"], config.init, config.suffix_length)
    except SuffixError as error:
        raise JobError(f"attacks.gcg on {row['id']}: {error}") from error


def searched(job: Job, loaded, rows: list[dict], starts: list, config: GCGConfig) -> list:
    """The attacks on all cases, going on from a saved state if there is one."""
    allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    kept = Progress(job, job.attacks)
    state = kept.load()
    if state is not None:
        print(f"going on after step {state['step']} of {config.steps}", file=sys.stderr, flush=True)
    seeds = [derived_seed(job.params["seed"], "attack", row["id"]) for row in rows]
    bar, begun = progress(len(rows) * max(1, config.steps), "attack steps"), time.perf_counter()
    try:
        check_cache(loaded.runner, starts[0], int(allowed.nonzero()[0]))
        results = attack_many(
            loaded.runner, loaded.chat, starts, config, allowed, seeds, progress=lambda *_: bar(1), state=state, save=kept.save
        )  # fmt: skip
    except CacheError as error:
        raise JobError(f"source {job.params['source']}: {error}") from error
    seconds, tokens = time.perf_counter() - begun, sum(r.tokens for r in results)
    print(f"{len(rows)} attacks in {seconds:.0f} s, {tokens} tokens", flush=True)
    return results


def refused(job: Job, loaded, rows: list[dict]) -> list[dict]:
    """The behaviours that the source refuses, by the refusal rules on a short greedy answer."""
    p = job.params
    prompts = [r.ids for r in loaded.chat.render_many([row["prompt"] for row in rows])]
    answers = generate(
        loaded.runner, prompts, loaded.chat.stop_ids, p["refusal_tokens"], p["batch_size"], loaded.chat.n_prefix
    )
    texts = [loaded.tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]
    kept = [row for row, text in zip(rows, texts, strict=True) if classify(text) != "none"]
    print(f"source {p['source']} refuses {len(kept)} of {len(rows)} behaviours", flush=True)
    return kept


if __name__ == "__main__":
    main()
