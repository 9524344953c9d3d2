"""Training: every regime is a chain of segments, each a job from one saved state to the next."""

import math
from dataclasses import replace

from pipeline.costs import sizes
from pipeline.costs.attacks import search, searching
from pipeline.costs.facts import ANSWERED, MB, PREFIX, REQUEST, TARGET, TRAINING, Facts, Need
from pipeline.costs.rates import Work
from pipeline.identity import Group, Job
from pipeline.stages.sources import model_settings
from pipeline.stages.stage import Stage
from pipeline.study import Study

NOT_THE_LOOP = ("saves", "segment_length", "keep", "monitor", "max_length", "processes", "sharding")


def segment(study: Study, job: Job) -> dict:
    """Of one training segment."""
    config, group, regime = study.config, job.group, study.regimes[job.regime]
    pool, gcg = None, None
    if regime["kind"] == "r2d2":
        pool = {k: v for k, v in config["pool"].items() if k != "gcg"} | {
            k: regime.get(k, True) for k in ("refresh", "away")
        }
        gcg = config["pool"]["gcg"]
        if not regime["refresh"]:  # nothing but the start of the suffixes matters where they are frozen
            gcg = {"steps": 0, "width": 1, **{k: gcg[k] for k in ("suffix_length", "init") if k in gcg}}
    return {
        "model": {key: value for key, value in model_settings(study).items() if key != "graphs"},  # weights move
        "seed": job.seed,
        "regime": job.regime,
        "start": group.start,
        "stop": group.stop,
        "saves": group.steps,
        "lora": config["lora"],
        "train": {k: v for k, v in config["train"].items() if k not in NOT_THE_LOOP},
        "max_length": config["train"]["max_length"],
        "monitor": config["train"]["monitor"],
        "base_name": config["model"]["name"],
        "pool": pool,
        "gcg": gcg,
    }


def training(facts: Facts, job: Job) -> Need:
    """Work is that of the process with most rows; what all repeat (reading the model, monitoring) is there once."""
    group, train, lora, processes = job.group, facts.config["train"], facts.config["lora"], facts.study.processes
    regime = facts.study.regimes[job.regime]
    work, steps = Work(facts.base, facts.size), group.stop - group.start
    tokens, labels = clean_tokens(facts)
    rows = math.ceil(train["rows"] / processes)
    longest = train["max_length"] if facts.study.answered else PREFIX + tokens
    micro = together(train, rows, longest)
    work.train(steps * (rows * tokens + PREFIX * rows / micro), steps * rows / micro, steps * rows * labels)
    held = sizes.backward(facts.base, facts.size, micro * longest, micro * max(labels, longest - PREFIX - REQUEST))
    if regime["kind"] == "r2d2":
        held = max(held, adversarial(facts, work, steps, regime))
    monitor = train["monitor"]
    for _ in range(2 * monitored(group, monitor)):
        work.answers(monitor["prompts"], REQUEST, monitor["max_new_tokens"], monitor["batch_size"], ANSWERED)
    state = sizes.training_state(facts.base, lora["rank"], lora["targets"])
    written = facts.adapter * len(group.steps) + state
    work.seconds_besides += 2 * written / facts.rates.load
    passing = facts.adapter * sum(facts.study.passing(group.regime, step) for step in group.steps)
    held += sizes.optimiser(facts.base, lora["rank"], lora["targets"])
    need = facts.model(work, held, written - passing, host=state, base=TRAINING, passing=passing)
    gpu = need.gpu - (elsewhere(facts, processes) / MB if need.gpu and train.get("sharding", "none") == "full" else 0)
    return replace(need, memory=need.memory * processes, gpu=gpu, processes=processes)


def together(train: dict, rows: int, longest: float) -> int:
    """Rows of one forward pass of training, of so many in a step and so many tokens."""
    most = max(1, int(train["micro_tokens"] // longest)) if "micro_tokens" in train else train["micro_rows"]
    return min(most, rows)


def monitored(group: Group, monitor: dict) -> int:
    """Steps of a segment after which the monitor prompts are answered."""
    every = range(group.start + 1, group.stop + 1)
    return sum(step % monitor["every"] == 0 or (monitor["at_saves"] and step in group.steps) for step in every)


def clean_tokens(facts: Facts) -> tuple[float, float]:
    """Tokens of a clean row without the shared prefix, and labels among them."""
    most, spec = facts.config["train"]["max_length"], facts.config["clean_rows"]
    answer = facts.clean_answer if facts.study.answered else spec["max_new_tokens"]
    return min(most - PREFIX, REQUEST + answer), min(most - PREFIX - REQUEST, answer)


def elsewhere(facts: Facts, processes: int) -> float:
    """Bytes of frozen weights that a GPU is spared where the blocks are spread over several; two blocks at a time are
    whole."""
    return (1 - 1 / processes) * max(0, facts.base.layers - 2) * facts.base.block * facts.size


def adversarial(facts: Facts, work: Work, steps: int, regime: dict) -> float:
    """Adds an R2D2 step's own work; returns the bytes that its training pass holds."""
    pool, processes = facts.config["pool"], facts.study.processes
    gcg, cases = pool["gcg"], pool["per_step"]
    tail = REQUEST + gcg["suffix_length"] + TARGET
    rows = math.ceil(cases * (3 if pool["plain_toward"] else 2) / processes)
    micro = together(facts.config["train"], rows, tail + PREFIX)
    chunks = -(-rows // micro)
    work.train(steps * (rows * tail + chunks * PREFIX), steps * chunks, steps * rows * TARGET)
    held = sizes.backward(facts.base, facts.size, micro * tail + PREFIX, micro * TARGET)
    if regime.get("refresh"):
        search(work, cases, steps * gcg["steps"], gcg, processes)
        held = max(held, searching(work, cases, gcg))
        work.seconds_besides += steps * 2e-9 * facts.base.parameters  # the adapter in and out of the weights
    else:
        work.forward(steps * cases * (PREFIX + tail), steps * cases, logits=steps * cases * TARGET)
    return held


STAGES = {
    "train": Stage("train_segment", "torch", segment, training, place="seed"),
    "training_table": Stage("training_table", "analysis", place="seed"),
}
