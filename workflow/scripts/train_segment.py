"""One segment of a regime's training: from the state at its start to the state at its end, with the saves between.

params: model, seed, regime, start, stop, saves, lora, train, pool (null for plain SFT), gcg, monitor {every, at_saves,
prompts, max_new_tokens, batch_size}. The state of the previous segment (--state, --progress) is needed unless start is 0.

Under `accelerate launch` the processes share the rows of a step and the candidates of the attacks, on GPUs one each; with
`--use_fsdp` they share the frozen weights as well. The files are those of one process but for rounding (and the dropout masks).
"""

import json
import os
import sys
from dataclasses import asdict

import pandas as pd
import torch
from _job import Job, JobError, read_jsonl
from _model import batch_size, load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from safety_geometry.adversarial import CleanRowsError, Pool, PoolConfig, clean_rows
from safety_geometry.distributed import Ranks, RanksError, launched, shard
from safety_geometry.gcg import GCGConfig
from safety_geometry.gcg_batches import BatchSize
from safety_geometry.generation import generate
from safety_geometry.judges.refusal import classify
from safety_geometry.models import ModelError, add_lora
from safety_geometry.runner import ContextError, Runner
from safety_geometry.suffix import SuffixError, allowed_tokens
from safety_geometry.training import StepLog, TrainConfig, Trainer


def main() -> None:
    job = Job(
        __doc__,
        inputs=["model", "clean", "pool", "monitor_harmful", "monitor_benign", "state?", "progress?"],
        outputs=["adapters*", "new_state", "new_progress", "log"],
    )
    try:
        with launched(job.params["model"]["device"], os.environ.get("ACCELERATE_USE_FSDP") == "true") as ranks:
            train(job, ranks)
    except RanksError as error:
        raise JobError(str(error)) from error
    except (CleanRowsError, ContextError) as error:
        raise JobError(f"regime {job.params['regime']}: {error}") from error
    except SuffixError as error:
        raise JobError(
            f"pool of {job.params['regime']}, {error}; choose another pool.gcg.init, or other prompts for role train_pool"
        ) from error


def train(job: Job, ranks: Ranks) -> None:
    """Every process does the same; the first one writes."""
    p = job.params
    if ranks.world > 1:
        p |= {"processes": ranks.world, "sharded": ranks.sharded}  # for the record: they change the rounding
    loaded = load(job, device="cpu" if ranks.sharded else None)
    lora = p["lora"]
    try:
        model = add_lora(loaded.model, lora["rank"], lora["alpha"], lora["dropout"], lora["targets"], p["seed"])
    except ModelError as error:
        raise JobError(str(error)) from error
    if ranks.sharded:
        shard(model, loaded.runner.layers, p["model"]["device"])
    runner = Runner(loaded.model)
    pool, allowed = None, None
    if p["pool"] is not None:
        gcg = GCGConfig(**p["gcg"])
        batch = BatchSize.on(runner.device, gcg.batch_size, ranks)
        job.batches.extend(batch.both)
        pool = Pool(PoolConfig(**p["pool"]), gcg, read_jsonl(job.pool), loaded.chat, p["seed"], batch)
        allowed = allowed_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    rows = clean_rows(loaded.chat, read_jsonl(job.clean), p["max_length"])
    trainer = Trainer(model, runner, loaded.chat, TrainConfig(**p["train"]), rows, pool, allowed, p["seed"], ranks)
    if p["start"]:
        if job.state is None:
            raise JobError(f"segment {p['start']}-{p['stop']} needs --state and --progress of the segment before it")
        try:
            state = load_file(job.state), json.loads(job.progress.read_text(encoding="utf-8"))
        except (SafetensorError, ValueError) as error:
            raise JobError(f"{job.state} or {job.progress} is damaged ({error}); make both anew") from error
        trainer.restore(*state)

    log: list[dict] = []
    adapters = dict(zip(p["saves"], job.adapters, strict=True))

    def finished(line: StepLog) -> None:
        due = line.step % p["monitor"]["every"] == 0 or (p["monitor"]["at_saves"] and line.step in adapters)
        refusals = monitor(job, loaded, model) if due else {}  # by all, in step: the others would wait for it anyway
        if not ranks.first:
            return
        log.append({"seed": p["seed"], "regime": p["regime"], **asdict(line), **refusals})
        shown = " ".join(f"{k} {v:.3f}" for k, v in log[-1].items() if isinstance(v, float) and v == v)
        print(f"step {line.step}/{p['stop']}: {shown}", file=sys.stderr, flush=True)
        if line.step in adapters:
            with job.publish(adapters[line.step]) as scratch:
                model.save_pretrained(scratch, save_embedding_layers=False)
                tidy(scratch, p["base_name"])

    trainer.advance(p["stop"], finished)
    if not ranks.first:
        return
    tensors, rest = trainer.state()
    with job.publish(job.new_state) as scratch:
        save_file(tensors, scratch)
    job.write_json(rest, job.new_progress)
    columns = [*asdict(StepLog(0, 0, 0, 0)), "refusal_harmful", "refusal_benign"]
    job.write_table(pd.DataFrame(log).reindex(columns=["seed", "regime", *columns]), job.log)


def monitor(job: Job, loaded, model) -> dict[str, float]:
    """Share of refused monitor prompts, harmful and benign, by the refusal rules on short greedy answers."""
    p = job.params["monitor"]
    model.eval()
    out = {}
    for name, path in (("refusal_harmful", job.monitor_harmful), ("refusal_benign", job.monitor_benign)):
        prompts = [r.ids for r in loaded.prompts(path, p["prompts"], p["max_new_tokens"])]
        answers = generate(
            Runner(loaded.model),
            prompts,
            loaded.chat.stop_ids,
            p["max_new_tokens"],
            batch_size(job, "monitor's answers", p["batch_size"]),
            loaded.chat.n_prefix,
        )
        texts = [loaded.tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]
        out[name] = float(torch.tensor([classify(t) != "none" for t in texts], dtype=torch.float64).mean())
    return out


def tidy(folder, base_name: str) -> None:
    """No path of this machine and no generated model card in a saved adapter."""
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name}
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
