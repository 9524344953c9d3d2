"""Sources, clean rows and training."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from study import Segment

from costs import sizes
from costs.facts import ANSWERED, BEHIND, CONVERSATION, MB, MODEL, PREFIX, REQUEST, TARGET, TRAINING, Facts, Need
from costs.rates import Work
from costs.shapes import Shape


def brought(f: Facts) -> list[tuple[dict, Shape]]:
    """Entries of the configuration that name a fetched model or adapter, with the shape of the model."""
    base, study = f.c["model"], f.study
    found = [(base, f.base)] if base["format"] not in ("tiny", None) else []
    found += [(spec, f.shape(name)) for name, spec in study.models.items()]
    for name, own in study.own.items():
        found += [(spec, f.shape(name)) for spec in [*own["steps"].values(), *([own["base"]] if "base" in own else [])]]
    return found


def fetch_source(f: Facts, at: Mapping[str, str]) -> Need:
    """Files of models take half-precision weights, GGUF ones a third of that, adapters little; data sets are small."""
    per = {"gguf": 0.6, "folder": 2.0, "adapter": 0.1}
    found = [(spec["source"], per[spec["format"]] * shape.parameters) for spec, shape in brought(f)]
    found += [(spec["source"], 2.0 * judge.parameters) for spec, judge in f.published()]
    size = max((size for source, size in found if source == at.get("name")), default=None)
    return f.table(5, disk=60) if size is None else f.table(5 + size / 50e6, disk=size / MB)


def convert(f: Facts, rule: str) -> Need:
    """A model folder from a fetched source. `rule`: base_model, model_NAME, base_of_NAME or checkpoint_NAME_STEP."""
    spec, shape = f.c["model"], f.base
    if m := re.fullmatch(r"model_(.+)", rule):
        spec, shape = f.study.models[m[1]], f.shape(m[1])
    elif m := re.fullmatch(r"base_of_(.+)|checkpoint_(.+)_(\d+)", rule):
        name = m[1] or m[2]
        own, shape = f.study.own[name], f.shape(name)
        spec = own["base"] if m[1] else own["steps"][int(m[3])]
    work = Work(shape, f.size)
    if spec["format"] != "gguf":  # copied as it is
        share = 0.05 if spec["format"] == "adapter" else 1.0
        work.bytes_loaded = 2 * 2 * share * shape.parameters
        return Need(work.seconds(f.rates), MODEL, disk=2 * share * shape.parameters / MB)
    weights = shape.parameters * f.size
    work.seconds_besides = 0.25e-6 * shape.parameters  # unpacking its numbers
    return Need(work.seconds(f.rates), MODEL + 2 * weights / MB, disk=weights / MB)


def clean_rows(f: Facts, at: Mapping[str, str]) -> Need:
    rows, spec = sum(f.prompts(role) for role in f.c["clean_rows"]["roles"]), f.c["clean_rows"]
    if spec.get("answers") == "data":
        return f.table(disk=rows * CONVERSATION * 5 / MB)
    work = Work(f.base, f.size)
    work.load()
    work.answers(rows, REQUEST, spec["max_new_tokens"], spec["batch_size"])  # a base model goes on to the limit
    held = f.decoding(f.base, min(rows, spec["batch_size"]), spec["max_new_tokens"])
    return f.model(work, held, rows * 500)


def clean_tokens(f: Facts) -> tuple[float, float]:
    """Tokens of a clean row without the shared prefix, and labels among them."""
    most, spec = f.c["train"]["max_length"], f.c["clean_rows"]
    answer = CONVERSATION if spec.get("answers") == "data" else spec["max_new_tokens"]
    return min(most - PREFIX, REQUEST + answer), min(most - PREFIX - REQUEST, answer)


def train(f: Facts, segment: Segment) -> Need:
    """Work is that of the process with most rows; what all repeat (reading the model, monitoring) is there once."""
    train, lora, processes = f.c["train"], f.c["lora"], f.study.processes
    regime = f.study.regimes[segment.regime]
    work, steps = Work(f.base, f.size), segment.stop - segment.start
    work.load()
    tokens, labels = clean_tokens(f)
    rows = math.ceil(train["rows"] / processes)
    micro = min(train["micro_rows"], rows)
    work.train(steps * (rows * tokens + PREFIX * rows / micro), steps * rows / micro, steps * rows * labels)
    longest = train["max_length"] if f.c["clean_rows"].get("answers") == "data" else PREFIX + tokens
    held = sizes.backward(f.base, f.size, micro * longest, micro * max(labels, longest - PREFIX - REQUEST))
    if regime["kind"] == "r2d2":
        held = max(held, adversarial(f, work, steps, regime))
    monitored = steps // train["monitor"]["every"]
    if train["monitor"]["at_saves"]:
        monitored = len({s for s in range(segment.start + 1, segment.stop + 1)
                         if s % train["monitor"]["every"] == 0 or s in segment.saves})  # fmt: skip
    asked = train["monitor"]["prompts"]
    for _ in range(2 * monitored):
        work.answers(asked, REQUEST, train["monitor"]["max_new_tokens"], train["monitor"]["batch_size"], ANSWERED)
    state = sizes.training_state(f.base, lora["rank"], lora["targets"])
    written = f.adapter * len(segment.saves) + state
    work.seconds_besides += 2 * written / f.rates.load
    passing = f.adapter * sum(f.study.passing(segment.regime, s) for s in segment.saves)
    held += sizes.optimiser(f.base, lora["rank"], lora["targets"])
    need = f.model(work, held, written - passing, host=state, base=TRAINING, passing=passing)
    gpu = need.gpu - (elsewhere(f, processes) / MB if need.gpu and train.get("sharding", "none") == "full" else 0)
    return replace(need, memory=need.memory * processes, gpu=gpu, processes=processes)


def elsewhere(f: Facts, processes: int) -> float:
    """Bytes of frozen weights that a GPU is spared where the blocks are spread over several; two blocks at a time are whole."""
    return (1 - 1 / processes) * max(0, f.base.layers - 2) * f.base.block * f.size


def adversarial(f: Facts, work: Work, steps: int, regime: dict) -> float:
    """Adds an R2D2 step's own work; returns the bytes that its training pass holds."""
    pool, micro, processes = f.c["pool"], f.c["train"]["micro_rows"], f.study.processes
    gcg, cases = pool["gcg"], pool["per_step"]
    tail = REQUEST + gcg["suffix_length"] + TARGET
    rows = math.ceil(cases * (3 if pool["plain_toward"] else 2) / processes)
    chunks = -(-rows // micro)
    work.train(steps * (rows * tail + chunks * PREFIX), steps * chunks, steps * rows * TARGET)
    held = sizes.backward(f.base, f.size, min(rows, micro) * tail + PREFIX, min(rows, micro) * TARGET)
    if regime.get("refresh"):
        search(f, work, cases, steps * gcg["steps"], gcg, processes)
        held = max(held, searching(f, cases, gcg))
        work.seconds_besides += steps * 2e-9 * f.base.parameters  # the adapter in and out of the weights
    else:
        work.forward(steps * cases * (PREFIX + tail), steps * cases, logits=steps * cases * TARGET)
    return held


def merging(f: Facts) -> float:
    """Seconds until the next save of a group is ready: a copy of the base, the merge of the adapter, the move to the device."""
    return 4 * f.base.parameters * f.size / f.rates.load


def search(f: Facts, work: Work, cases: int, steps: float, gcg: dict, processes: int = 1) -> None:
    """`steps` steps of GCG on `cases` cases together. Processes share the candidates; each makes all gradients."""
    behind = gcg["suffix_length"] + BEHIND + TARGET  # from the suffix on; a candidate starts half-way through it
    each = behind - gcg["suffix_length"] / 2
    candidates = cases * (gcg["width"] + gcg.get("echo", 0) + max(0, gcg.get("merge", 0) - 1) * 0.5) / processes
    work.train(steps * cases * behind, steps, steps * cases * TARGET)
    passes = max(2.0, candidates / gcg["batch_size"])
    work.forward(steps * candidates * each, steps * passes, logits=steps * candidates * TARGET)


def searching(f: Facts, cases: int, gcg: dict) -> float:
    """Bytes that a step of GCG holds."""
    width = gcg["suffix_length"] + BEHIND + TARGET
    rows, looked = min(gcg["batch_size"], cases * gcg["width"]), min(cases, max(1, gcg["batch_size"] // 4))
    scoring = sizes.one_pass(f.base, f.size, rows, width) + 4 * sizes.FLOAT * rows * TARGET * f.base.vocabulary
    looking = sizes.backward(f.base, f.size, looked * width, looked * TARGET)
    kept = sizes.key_values(f.base, f.size, 2 * cases + rows / f.base.layers, PREFIX + REQUEST + width)
    return max(scoring, looking) + kept + 2 * sizes.FLOAT * cases * gcg["suffix_length"] * f.base.vocabulary
