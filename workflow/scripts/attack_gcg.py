"""GCG attacks on a source checkpoint: made once, frozen, and asked of other checkpoints.

The search stops on its loss, never on a judge; the final loss is recomputed without the prefix cache. All cases are
attacked together, and a killed job goes on with the step it was in. params: model, seed, source, behaviours, gcg. The
suffixes go to --attacks (private); --table carries ids and numbers only. Seconds are in the log and the benchmark file.
"""

import sys
import time

from _job import Job, explained
from _model import load, progress

from safety_geometry.artefacts.attacks import attack
from safety_geometry.artefacts.prompts import read_behaviours
from safety_geometry.artefacts.unit_store import UnitStore, content_key
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.losses import CacheError
from safety_geometry.attacks.gcg.numbers import numbers
from safety_geometry.attacks.gcg.scoring import check_cache
from safety_geometry.attacks.gcg.search import GCGConfig, attack_many
from safety_geometry.attacks.gcg.suffix import SuffixError, allowed_tokens, initial_suffix
from safety_geometry.models.runner import ContextError
from safety_geometry.stats.seeds import derived_seed


def main() -> None:
    job = Job(__doc__, inputs=["model", "adapter?", "behaviours"], outputs=["attacks", "table"])
    loaded, params, config = load(job, job.adapter), job.params, GCGConfig(**job.params["gcg"])
    runner, chat, rows, starts = loaded.runner, loaded.chat, read_behaviours(job.behaviours, params["behaviours"]), []
    for row in rows:
        with explained(SuffixError, of=f"attacks.gcg on {row['id']}"):
            seed = derived_seed(params["seed"], "start", row["id"])
            starts.append(initial_suffix(chat, row["prompt"], row["target"], config.init, config.suffix_length, seed))
    store, key = UnitStore(job.attacks.with_suffix(".store")), content_key(job.facts(job.inputs, params))
    batch = BatchSize.on(runner.device, config.batch_size, grows=job.grows)
    job.batches.extend(batch.both)
    if state := store.get(key):
        print(f"going on after step {state['step']} of {config.steps}", file=sys.stderr, flush=True)
    allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    seeds = [derived_seed(params["seed"], "attack", row["id"]) for row in rows]
    bar, begun = progress(len(rows) * max(1, config.steps), "attack steps"), time.perf_counter()
    with explained(CacheError, ContextError, of=f"source {params['source']}"):
        runner.check_context([len(start.ids) for start in starts], names=[row["id"] for row in rows])
        check_cache(runner, starts[0], int(allowed.nonzero()[0]))
        keep = {"state": state, "save": lambda now: store.put(key, now)}
        results = attack_many(runner, chat, starts, config, allowed, seeds, lambda *_: bar(1), batch=batch, **keep)
    print(f"{len(rows)} attacks in {time.perf_counter() - begun:.0f} s", flush=True)
    attacks, table = [], []
    for row, start, result in zip(rows, starts, results, strict=True):
        attacks += [attack(row, "gcg", result.suffix.prompt), attack(row, "gcg_init", start.prompt)]
        of = {"seed": params["seed"], "attack": "gcg", "source": params["source"], "behaviour": row["id"]}
        table.append(of | numbers(runner, config, [start], result))
    job.write_jsonl(attacks, job.attacks)
    job.write_table(table, job.table, "attack_parts")
    store.keep([])


if __name__ == "__main__":
    main()
