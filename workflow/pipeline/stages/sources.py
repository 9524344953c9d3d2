"""Fetched sources, models made of them, their layers, the prompt sets by role, and the clean rows."""

from dataclasses import replace

from pipeline.costs.facts import CONVERSATION, MB, MODEL, REQUEST, Facts, Need
from pipeline.costs.rates import Work
from pipeline.costs.shapes import Shape
from pipeline.identity import Job
from pipeline.limits import layers_of, limits_of
from pipeline.stages.stage import Stage
from pipeline.study import FETCHED_AHEAD, Study


def model_settings(study: Study) -> dict:
    """What every job that reads or attacks a model needs to know of it."""
    return {
        key: study.config["model"][key] for key in ("dtype", "device", "threads", "grow_batches", "graphs", "system")
    }


# --------------------------------------------------------------------------------------------------------- settings


def fetched(study: Study, job: Job) -> dict:
    name = job.other["name"]
    source = {key: value for key, value in study.config["sources"][name].items() if key != "licence"}
    where = {"where": study.source_keys[name]} if name in study.source_keys else {}
    cache = {"cache": study.layout.download(name)} if name in study.passing_sources else {}
    return {"name": name, "source": source, **where, **cache}


def tiny(study: Study, job: Job) -> dict:
    model = study.config["model"]
    place = {key: model[key] for key in ("dtype", "device")} if model["device"].startswith("cuda") else {}
    return {**model["tiny"], "system": model["system"], **place}


def converted(study: Study, job: Job) -> dict:
    spec, _ = study.layout.converted()[f"{study.layout.root}/models/{job.other['model']}"]
    return {"format": spec["format"], **{k: study.config["model"][k] for k in ("dtype", "threads", "system")}}


def layers(study: Study, job: Job) -> dict:
    names = study.layout.models()
    trained = {"lora_targets": study.config["lora"]["targets"]} if study.regimes else {}
    return {
        "models": {name: layers_of(study, name) for name in names},
        "limits": {name: limits_of(study, name) for name in names},
        **trained,
    }


def judge_prompts(study: Study, job: Job) -> dict:
    """The sets point into `study.prompt_sources` by index."""
    prompts, paths, layout = study.config["prompts"], study.prompt_sources(), study.layout
    sources = {}
    for name, spec in prompts["sets"].items():
        if spec["source"] is None:
            place = {"path": [paths.index(file) for file in spec["files"]]}
        else:
            place = {"path": paths.index(layout.source(spec["source"])), "files": spec["files"]}
        sources[name] = place | {k: spec[k] for k in ("format", "label", "sample") if k in spec}
        if targets := spec.get("targets"):
            sources[name]["targets"] = {
                "path": paths.index(layout.source(targets["source"])),
                "files": targets["files"],
            }
    roles = {
        name: {"source": role["set"], **{k: v for k, v in role.items() if k != "set"}}
        for name, role in prompts["roles"].items()
    }
    return {
        "sources": sources,
        "roles": roles,
        "seed": prompts["seed"],
        "threshold": prompts["near_duplicate"],
        "target_words": prompts["target_words"],
    }


def prompt_sets(study: Study, job: Job) -> dict:
    """Of a seed."""
    draw = {key: study.config["prompts"][key] for key in ("per_seed", "on_leak")}
    return judge_prompts(study, job) | {"run": job.seed} | draw


def clean_rows(study: Study, job: Job) -> dict:
    """How the clean rows are made, or that the data has them."""
    if study.answered:
        return {"answers": "data"}
    return {
        "model": model_settings(study),
        **{k: study.config["clean_rows"][k] for k in ("max_new_tokens", "batch_size")},
    }


# ------------------------------------------------------------------------------------------------------------- work


EMBEDDER_BYTES = 92e6  # of the model of sentence embeddings
LINKED = 0.2  # MB of a model folder that is links: its sidecar, and a chat template that the configuration names


def fetching(facts: Facts, job: Job) -> Need:
    """Files of models take half-precision weights, GGUF ones a third of that, adapters little; data sets are small."""
    bytes_of = {"gguf": 0.6, "folder": 2.0, "adapter": 0.1}
    sizes = [(spec["source"], bytes_of[spec["format"]] * shape.parameters) for spec, shape in brought(facts)]
    sizes += [(spec["source"], 2.0 * facts.judge(name).parameters) for name, spec in facts.study.model_judges.items()]
    if facts.study.embeddings:
        sizes.append((facts.study.embeddings["source"], EMBEDDER_BYTES))
    size = max((size for source, size in sizes if source == job.other["name"]), default=None)
    if size is not None and job.other["name"] in facts.study.passing_sources:
        return replace(facts.table(5 + size / 50e6, disk=0.0), passing=size / MB)
    return facts.table(5, disk=60) if size is None else facts.table(5 + size / 50e6, disk=size / MB)


def passing_peak(facts: Facts) -> tuple[float, int, int]:
    """Of the steps with keep: none: MB of those that are on the disk at a time, their number, and that of all.

    Those that are read when others have been stay until then; of the others as many are there as are fetched ahead, and
    one more. A model is a hard link to what was fetched.
    """
    study, peak, held, steps = facts.study, 0.0, 0, 0
    for name in filter(study.weights_pass, study.brought):
        each = [step for step in study.steps(name) if study.passing(name, step)]
        waiting = sum(study.waits(name, step) for step in each)
        present = min(len(each), waiting + FETCHED_AHEAD + 1)
        sizes = {"folder": 2.0, "adapter": 0.2, "gguf": 0.6 + facts.size}
        largest = max((sizes[study.brought[name]["steps"][step]["format"]] for step in each), default=0.0)
        peak += present * largest * facts.shape(name).parameters / MB
        held, steps = held + present, steps + len(each)
    return peak, held, steps


def brought(facts: Facts) -> list[tuple[dict, Shape]]:
    """Entries of the configuration that name a fetched model or adapter, with the shape of the model."""
    return [(spec, facts.shape_in(folder)) for folder, (spec, _) in facts.study.layout.converted().items()]


def converting(facts: Facts, job: Job) -> Need:
    """Of what passes, nothing stays."""
    need, passing = _converting(facts, job), facts.study.layout.passing()
    folder = f"{facts.study.layout.root}/models/{job.other['model']}"
    return replace(need, disk=0.0, passing=need.disk) if folder in passing else need


def _converting(facts: Facts, job: Job) -> Need:
    folder = f"{facts.study.layout.root}/models/{job.other['model']}"
    spec, shape = facts.study.layout.converted()[folder][0], facts.shape_in(folder)
    work = Work(shape, facts.size, loads=0)
    if spec["format"] != "gguf":  # read once to be checked; weights of a folder are hard links to what was fetched
        share = 0.05 if spec["format"] == "adapter" else 1.0
        work.bytes_loaded = 2 * 2 * share * shape.parameters
        disk = 2 * share * shape.parameters / MB if spec["format"] == "adapter" else LINKED
        return Need(work.seconds(facts.rates), MODEL, disk=disk)
    weights = shape.parameters * facts.size
    work.seconds_besides = 0.25e-6 * shape.parameters  # unpacking its numbers
    return Need(work.seconds(facts.rates), MODEL + 2 * weights / MB, disk=weights / MB)


def making(facts: Facts, job: Job) -> Need:
    """A random model, on the device."""
    work, weights = Work(facts.base, facts.size, loads=0), facts.base.parameters * facts.size
    work.seconds_besides = weights / facts.rates.load
    return facts.model(work, 0, weights)


def cleaning(facts: Facts, job: Job) -> Need:
    spec = facts.config["clean_rows"]
    rows = sum(facts.prompts(role) for role in spec["roles"])
    if spec.get("answers") == "data":
        return facts.table(disk=rows * CONVERSATION * 5 / MB)
    work = Work(facts.base, facts.size)
    work.answers(rows, REQUEST, spec["max_new_tokens"], spec["batch_size"])  # a base model goes on to the limit
    held = facts.decoding(facts.base, min(rows, spec["batch_size"]), spec["max_new_tokens"])
    return facts.model(work, held, rows * 500)


STAGES = {
    "fetch_source": Stage("fetch_source", "sources", fetched, fetching, place="{name}", online=True),
    "fetch_passing": Stage("fetch_source", "sources", fetched, fetching, place="{name}", online=True),
    "tiny_model": Stage("tiny_model", "torch", tiny, making),
    "convert_model": Stage("convert_model", "torch", converted, converting, place="{model}"),
    "convert_passing": Stage("convert_model", "torch", converted, converting, place="{model}"),
    "model_layers": Stage("model_layers", "sources", layers),
    "judge_prompts": Stage("judge_prompts", "analysis", judge_prompts),
    "prompt_sets": Stage("prompt_sets", "analysis", prompt_sets, place="seed"),
    "leakage_table": Stage("leakage_table", "analysis"),
    "clean_rows": Stage("clean_rows", "torch", clean_rows, cleaning, place="seed"),
}
