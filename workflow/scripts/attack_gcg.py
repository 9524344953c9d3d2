"""GCG attacks on a source checkpoint: made once, frozen, and asked of other checkpoints.

The search stops on its loss, never on a judge; the final loss is recomputed without the prefix cache. params: model, seed,
source, behaviours, gcg. The suffixes go to --attacks (private); --table carries ids and numbers only.
"""

import time

import pandas as pd
from _job import Job, JobError, read_jsonl
from _model import load, progress

from safety_geometry.adversarial import derived_seed
from safety_geometry.gcg import GCGConfig, allowed_tokens, attack, initial_suffix, uncached_loss


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours"], outputs=["attacks", "table"])
    loaded, p = load(job, job.adapter), job.params
    config = GCGConfig(**p["gcg"])
    rows = read_jsonl(job.behaviours)[: p["behaviours"]]
    allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    bar, attacks, table = progress(len(rows), "attacks"), [], []
    for row in rows:
        started = time.perf_counter()
        start = initial_suffix(loaded.chat, row["prompt"], row["target"], config)
        result = attack(
            loaded.runner, loaded.chat, start, config, allowed, derived_seed(p["seed"], "attack", row["id"])
        )
        check = uncached_loss(loaded.runner, result.suffix)
        if abs(check - result.suffix.loss) > 1e-3 * max(1.0, check) and p["model"]["dtype"] == "float32":
            raise JobError(
                f"attack on {row['id']}: cached loss {result.suffix.loss:.5f}, uncached {check:.5f}; they must agree"
            )
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
        table.append({
            "seed": p["seed"], "attack": "gcg", "source": p["source"], "behaviour": row["id"], "budget_steps": config.steps,
            "width": config.width, "steps": len(result.losses) - 1, "loss_start": result.losses[0], "loss": check,
            "candidates": result.scored, "rejected": result.rejected, "tokens": result.tokens, "stopped": result.stopped,
        })  # fmt: skip
        print(
            f"{row['id']}: loss {result.losses[0]:.3f} -> {check:.3f}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        bar(1)
    job.write_jsonl(attacks, job.attacks)
    with job.publish(job.table) as scratch:  # the table `attacks` without success, which is not known yet
        pd.DataFrame(table).to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    main()
