"""One suffix for several requests, optimised on a source checkpoint, and asked with every direct request.

--behaviours are the requests that it is made on; --requests those that it is asked with, of which any that served to
make it are left out. The search stops on its loss, never on a judge; a killed job goes on with the step it was in.
params: model, seed, source, gcg. The prompts go to --attacks (private); --table carries ids and numbers only.
"""

import sys

from _job import Job, explained
from _model import load, progress

from safety_geometry.artefacts.attacks import attack
from safety_geometry.artefacts.prompts import read_behaviours
from safety_geometry.artefacts.unit_store import UnitStore, content_key
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.config import GCGConfig
from safety_geometry.attacks.gcg.losses import CacheError
from safety_geometry.attacks.gcg.numbers import numbers
from safety_geometry.attacks.gcg.scoring import check_cache
from safety_geometry.attacks.gcg.suffix import SuffixError, allowed_tokens, common_start
from safety_geometry.attacks.gcg.universal import attack_together
from safety_geometry.models.runner import ContextError
from safety_geometry.stats.seeds import derived_seed


def main() -> None:
    job = Job(__doc__, ["model", "adapter?", "behaviours", "requests"], ["attacks", "table"])
    loaded, params, config = load(job, job.adapter), job.params, GCGConfig(**job.params["gcg"])
    runner, chat, rows = loaded.runner, loaded.chat, read_behaviours(job.behaviours)
    seed = derived_seed(params["seed"], "universal")
    with explained(SuffixError, of="attacks.universal"):
        pairs = [(row["prompt"], row["target"]) for row in rows]
        starts = common_start(chat, pairs, config.init, config.suffix_length, seed)
    store, key = UnitStore(job.attacks.with_suffix(".store")), content_key(job.facts(job.inputs, params))
    batch = BatchSize.on(runner.device, config.batch_size, grows=job.grows)
    job.batches.extend(batch.both)
    if state := store.get(key):
        print(f"going on after step {state['run']['step']} of {config.steps}", file=sys.stderr, flush=True)
    allowed, bar = allowed_tokens(loaded.tokenizer, runner.config.vocab_size), progress(max(1, config.steps), "steps")
    with explained(CacheError, ContextError, of=f"source {params['source']}"):
        runner.check_context([len(start.ids) for start in starts], names=[row["id"] for row in rows])
        check_cache(runner, starts[0], int(allowed.nonzero()[0]))
        result = attack_together(
            runner, chat, starts, config, allowed, seed, lambda *_: bar(1), state,
            lambda now: store.put(key, now), batch,
        )  # fmt: skip
    print(f"{len(rows)} requests, mean loss {result.losses[0]:.3f} -> {result.loss:.3f}", flush=True)
    served = {row["id"] for row in rows}
    asked = [row for row in read_behaviours(job.requests) if row["id"] not in served]
    job.write_jsonl([attack(row, "universal", row["prompt"] + result.text) for row in asked], job.attacks)
    of = {"seed": params["seed"], "attack": "universal", "source": params["source"], "behaviour": "all"}
    job.write_table([of | numbers(runner, config, starts, result)], job.table, "attack_parts")
    store.keep([])


if __name__ == "__main__":
    main()
