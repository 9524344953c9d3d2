"""Combinations of settings that cannot work, with messages that name the key, the value and what to do."""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from pipeline.config_check import ConfigError
from pipeline.limits import layers_of, limits_of
from pipeline.study import Study
from safety_geometry.causal.plan import Target
from safety_geometry.models.limits import Asked, faults

DATA = Path(__file__).resolve().parents[2] / "data"
WORDS = {"none", "nan", "na", "nil", "y", "n"}  # besides what YAML and Python read as a value
WILDCARD = re.compile(r"\{\s*[.\w]+\s*[,}]")  # Snakemake's, which it looks for in every path
TEXT = "tag:yaml.org,2002:str"


def check_combinations(study: Study) -> None:
    """Raises ConfigError on a combination of settings that cannot work; what is within one section, the models in `settings` check."""
    for check in CHECKS:
        check(study)


def _words(study: Study) -> None:
    """Names that YAML, Python or a table's reader would take for a value, that are taken, or that a disk may not tell apart."""
    c, prompts = study.config, study.config["prompts"]
    named = {
        "study": [c["study"]], "sources": c["sources"], "prompts.sets": prompts["sets"], "prompts.roles": prompts["roles"],
        "regimes": study.regimes, "checkpoints": study.brought, "aligned.models": study.models,
    }  # fmt: skip
    for key, names in named.items():
        for name in names:
            check_word(key, name)
        if both := [name for name, n in Counter(name.casefold() for name in names).items() if n > 1]:
            alike = [name for name in names if name.casefold() == both[0]]
            raise ConfigError(
                key, alike, "these differ in capitals only, and some disks do not; call one something else"
            )
    if "fixed_source" in prompts["roles"]:
        raise ConfigError("prompts.roles", "fixed_source", "the suite of attacks has this name; call it something else")


def check_word(key: str, name: str) -> None:
    """Raises ConfigError for a name that is a value to some reader."""
    if reads_as_value(name):
        fix = "a name that is read as a number, a truth value or nothing, by YAML or in a table; call it something else"
        raise ConfigError(key, name, fix)


def reads_as_value(name: str) -> bool:
    """Whether YAML takes a name for something else than text where it is not quoted, or a reader of tables takes it for a number or
    for nothing."""
    if yaml.resolver.Resolver().resolve(yaml.ScalarNode, name, (True, False)) != TEXT or name.casefold() in WORDS:
        return True
    with contextlib.suppress(ValueError):
        float(name)
        return True
    return False


def _files(study: Study) -> None:
    """Paths that Snakemake or a script's command line would take for something else, and patterns that leave their source."""
    for key, path in _own_files(study):
        if found := WILDCARD.search(path):
            fix = f"Snakemake takes {found[0]} for a wildcard; rename the file, or copy it to a name without braces"
            raise ConfigError(key, path, fix)
        if path.startswith(("-", "~")):
            fix = f"a path that begins with {path[0]} is taken for something else; write it in full, from / on"
            raise ConfigError(key, path, fix)
    for key, pattern in _patterns(study):
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ConfigError(key, pattern, "has to be a file within the source, without / before it and without ..")


def _own_files(study: Study) -> Iterator[tuple[str, str]]:
    """(key, path) of every file that is named by its place on this machine."""
    c = study.config
    for name, spec in c["prompts"]["sets"].items():
        if spec["source"] is None:
            yield from ((f"prompts.sets.{name}.files", path) for path in spec["files"])
    brought = {"model": c["model"], **{f"aligned.models.{name}": spec for name, spec in study.models.items()}}
    for name, trajectory in study.brought.items():
        brought |= {f"checkpoints.{name}": trajectory, f"checkpoints.{name}.base": trajectory.get("base", {})}
    yield from (
        (f"{key}.chat_template", spec["chat_template"]) for key, spec in brought.items() if "chat_template" in spec
    )
    judges = c["judges"]
    if judges.get("hand_labels"):
        yield "judges.hand_labels", judges["hand_labels"]
    for kind in ("refusal", "harm") if judges["labelled"] else ():
        if judges["labelled"][kind]["source"] is None:
            yield from ((f"judges.labelled.{kind}.files", path) for path in judges["labelled"][kind]["files"])
    for name in ("harmbench", "strongreject"):
        for part in ("template", "contextual_template"):
            if isinstance(path := (judges.get(name) or {}).get(part), str):
                yield f"judges.{name}.{part}", path


def _patterns(study: Study) -> Iterator[tuple[str, str]]:
    """(key, pattern) of every file that is looked for within a source."""
    c = study.config
    for name, spec in c["sources"].items():
        for entry in spec.get("members", []):
            yield f"sources.{name}.members", entry if isinstance(entry, str) else entry["path"]
        if "file" in spec:
            yield f"sources.{name}.file", spec["file"]
    for name, spec in c["prompts"]["sets"].items():
        if spec["source"] is not None:
            yield from ((f"prompts.sets.{name}.files", pattern) for pattern in spec["files"])
        yield from (
            (f"prompts.sets.{name}.targets.files", pattern) for pattern in spec.get("targets", {}).get("files", [])
        )
    judges = c["judges"]
    for kind in ("refusal", "harm") if judges["labelled"] else ():
        if judges["labelled"][kind]["source"] is not None:
            yield from ((f"judges.labelled.{kind}.files", pattern) for pattern in judges["labelled"][kind]["files"])
    for name in ("harmbench", "strongreject"):
        for part in ("template", "contextual_template"):
            if isinstance(given := (judges.get(name) or {}).get(part), dict):
                yield f"judges.{name}.{part}.file", given["file"]


def _names(study: Study) -> None:
    """Regimes, checkpoints and aligned models stand beside each other in tables and folders."""
    kinds = {"checkpoints": study.brought, "aligned.models": study.models}
    for key, names in kinds.items():
        if "base" in names:
            raise ConfigError(key, "base", "this is the name of the regimes' base model; call it something else")
        if both := sorted(set(names) & set(study.regimes)):
            raise ConfigError(key, both[0], "a regime has this name; call it something else")
    if "layers" in study.models:
        raise ConfigError("aligned.models", "layers", "the rule model_layers has this name; call it something else")
    if both := sorted(set(study.brought) & set(study.models)):
        raise ConfigError("checkpoints", both[0], "an aligned model has this name; call it something else")
    if not study.trajectories:
        raise ConfigError("regimes", {}, "nothing to study: name regimes to train, or checkpoints that you have")
    c = study.config
    if study.regimes and c["model"]["format"] is None:
        raise ConfigError("model.format", None, "the regimes are trained from this model; set source and format")
    if c["model"]["source"] is not None and c["model"]["format"] != "tiny":
        _known("model.source", c["model"]["source"], "source", c["sources"])
    if not study.regimes and len(c["seeds"]) > 1:
        fix = "nothing is trained here, so that another seed would repeat every checkpoint; keep one"
        raise ConfigError("seeds", c["seeds"], fix)


def _own(study: Study) -> None:
    """Checkpoints that were not trained here."""
    for name, trajectory in study.brought.items():
        key = f"checkpoints.{name}"
        _saved(study, f"{key}.reference", name, trajectory["reference"])
        for anchor in trajectory.get("anchors", []):
            _saved(study, f"{key}.anchors", name, anchor)
        if trajectory["reference"] in trajectory.get("anchors", []):
            fix = "this is the reference, which is an anchor already; take it out of the anchors"
            raise ConfigError(f"{key}.anchors", trajectory["reference"], fix)
        for step, spec in trajectory["steps"].items():
            _known(f"{key}.steps.{step}.source", spec["source"], "source", study.config["sources"])
            if spec["format"] == "adapter" and "base" not in trajectory and study.config["model"]["format"] is None:
                fix = f"an adapter needs the model that it was trained on: name it in {key}.base, or in model"
                raise ConfigError(f"{key}.steps.{step}.format", "adapter", fix)
        if "base" in trajectory:
            _known(f"{key}.base.source", trajectory["base"]["source"], "source", study.config["sources"])
            if all(spec["format"] != "adapter" for spec in trajectory["steps"].values()):
                fix = "no step has format adapter, so that nothing would be put on this base; take it out"
                raise ConfigError(f"{key}.base", trajectory["base"]["source"], fix)


def _anchors(study: Study) -> None:
    for regime, settings in study.regimes.items():
        for name, step in study.anchors(regime).items():
            key = f"regimes.{regime}.reference" if name == "reference" else "anchors"
            _saved(study, key, regime, step)
            if name != "reference" and step == settings["reference"]:
                fix = "an anchor has this step already; choose another step, or take it out of the anchors"
                raise ConfigError(f"regimes.{regime}.reference", step, fix)
        if settings["kind"] == "r2d2" and "refresh" not in settings:
            raise ConfigError(f"regimes.{regime}.refresh", None, "an r2d2 regime needs refresh: true or false")


def _schedule(study: Study) -> None:
    """No step is trained beyond the end of the cosine."""
    length = study.config["train"]["schedule_steps"] if study.regimes else 0
    for regime, settings in study.regimes.items():
        if (last := study.steps(regime)[-1]) > length:
            key = f"regimes.{regime}.saves" if "saves" in settings else "train.saves"
            fix = (
                f"the learning rate is 0 beyond train.schedule_steps ({length}); take the later saves out, or raise"
                " schedule_steps, which changes the learning rate of every step"
            )
            raise ConfigError(key, last, fix)


def _attacks(study: Study) -> None:
    attacks = study.config["attacks"]
    source = attacks["source"]
    _known("attacks.source.regime", source["regime"], "regime", study.trajectories)
    _saved(study, "attacks.source.step", source["regime"], source["step"])
    _enough(study, "attacks.behaviours", attacks["behaviours"], "direct")
    if (n := study.config["transfer"]["behaviours"]) > attacks["behaviours"]:
        raise ConfigError("transfer.behaviours", n, f"only attacks.behaviours ({attacks['behaviours']}) are chosen")


def _prompts(study: Study) -> None:
    c, p = study.config, study.config["prompts"]
    unknown = set(c["completions"]["every_save"]) - set(c["completions"]["max_new_tokens"])
    if unknown:
        raise ConfigError("completions.every_save", sorted(unknown), "not a suite of completions.max_new_tokens")
    for suite, n in c["completions"]["every_save"].items():
        if n is not None and suite in p["roles"]:
            _enough(study, f"completions.every_save.{suite}", n, suite)
    for name, spec in p["roles"].items():
        for each in spec["set"] if isinstance(spec["set"], list) else [spec["set"]]:
            _known(f"prompts.roles.{name}.set", each, "set", p["sets"])
    for name, spec in p["roles"].items():
        if "shares" in spec:
            _known(f"prompts.roles.{name}.shares", spec["shares"], "role", p["roles"])
    for name in c["clean_rows"]["roles"] if study.regimes else []:
        _known("clean_rows.roles", name, "role", p["roles"])
    for name, spec in p["sets"].items():
        if spec["source"] is not None:
            _known(f"prompts.sets.{name}.source", spec["source"], "source", c["sources"])
        if "targets" in spec:
            _known(f"prompts.sets.{name}.targets.source", spec["targets"]["source"], "source", c["sources"])
            if spec["format"] != "harmbench_csv":
                fix = "goes with format harmbench_csv, whose behaviours have the ids that a targets file is written by"
                raise ConfigError(f"prompts.sets.{name}.targets", spec["format"], fix)
    if study.answered:
        for name in c["clean_rows"]["roles"]:
            sets = p["roles"][name]["set"]
            for each in sets if isinstance(sets, list) else [sets]:
                if (found := p["sets"][each]["format"]) != "ultrachat":
                    fix = (
                        f"role {name} has prompts without answers (set {each}, format {found}); only ultrachat has them"
                    )
                    raise ConfigError("clean_rows.answers", "data", fix)
    for kind in ("harmful", "benign"):
        _enough(study, "refusal.validation", c["refusal"]["validation"], f"select_{kind}")


def _behaviour(study: Study) -> None:
    """What `refusal.contrast: behaviour` cannot go with."""
    if not study.by_behaviour:
        return
    c, roles = study.config, study.config["prompts"]["roles"]
    if swept := study.swept():
        fix = "leave sweep.checkpoints, sweep.primary, aligned.anchors and aligned.models empty (null, and [] for sweep.primary)"
        why = f"the controls of the causal sweep contrast prompts, and {swept[0][1]} is swept"
        raise ConfigError("refusal.contrast", "behaviour", f"{why}; {fix}")
    sizes = [roles[f"fit_{kind}"]["n"] for kind in ("harmful", "benign")]
    if all(isinstance(n, int) for n in sizes) and sum(sizes) < 2 * c["refusal"]["class_min"]:
        fix = f"roles fit_harmful and fit_benign have {sum(sizes)} prompts together, too few for two such classes"
        raise ConfigError("refusal.class_min", c["refusal"]["class_min"], fix)


def _searches(study: Study) -> None:
    """What an attack or a carrier is to take of something that has less of it."""
    c = study.config
    seeds = len((DATA / "autodan_seeds.jsonl").read_text(encoding="utf-8").splitlines())
    if (n := c["attacks"]["autodan"]["seeds"]) > seeds:
        raise ConfigError("attacks.autodan.seeds", n, f"data/autodan_seeds.jsonl has {seeds}")
    position, positions = c["harmfulness"]["position"], c["activations"]["positions"]
    if position != "t_inst" and position not in positions:
        raise ConfigError("harmfulness.position", position, f"not in activations.positions ({positions}); add it there")


def _tiny(study: Study) -> None:
    """What a model that is made here cannot do. Of others this is known once they are fetched: the rule model_layers."""
    model = study.config["model"]
    if model["format"] != "tiny" or not study.regimes:
        return
    tiny = model["tiny"]
    config = {
        "num_hidden_layers": tiny["layers"], "hidden_size": tiny["hidden"], "num_attention_heads": tiny["heads"],
        "num_key_value_heads": max(1, tiny["heads"] // 2), "vocab_size": tiny["vocabulary"], "max_position_embeddings": 512,
    }  # fmt: skip
    beyond = list(faults("base", config, Asked(layers_of(study, "base"), **limits_of(study, "base"))))
    if beyond:
        raise ConfigError.of([(fault.partition(" ")[0], fault) for fault in beyond])
    inside = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    modules = [f"model.layers.{n}.{name}" for n in range(tiny["layers"]) for name in inside]
    modules += ["model.embed_tokens", "lm_head"]
    for target in study.config["lora"]["targets"]:
        if not any(f".{module}".endswith(f".{target}") for module in modules):
            known = ", ".join(name.split(".")[-1] for name in inside)
            raise ConfigError("lora.targets", target, f"the tiny model has no such module; it has {known}")


def _pool(study: Study) -> None:
    if not study.regimes:
        return
    pool = study.config["pool"]
    if pool["per_step"] > pool["size"]:
        raise ConfigError("pool.per_step", pool["per_step"], f"must be at most pool.size ({pool['size']})")
    _enough(study, "pool.size", pool["size"], "train_pool")
    for role in ("monitor_harmful", "monitor_benign"):
        _enough(study, "train.monitor.prompts", study.config["train"]["monitor"]["prompts"], role)


def _processes(study: Study) -> None:
    """Of a training job: each has to have a row of a step, and on GPUs one of its own."""
    processes = study.processes
    for regime, settings in study.regimes.items():
        pool = study.config["pool"]
        attacked = pool["per_step"] * (2 + pool["plain_toward"]) if settings["kind"] == "r2d2" else 0
        if processes > (rows := study.config["train"]["rows"] + attacked):
            fix = f"a step of regime {regime} has {rows} rows to share; start fewer processes, or raise train.rows"
            raise ConfigError("train.processes", processes, fix)
    if processes > 1 and study.config["model"]["device"].startswith("cuda:"):
        fix = f"is one GPU, and train.processes = {processes} need one each; write cuda"
        raise ConfigError("model.device", study.config["model"]["device"], fix)


def _models(study: Study) -> None:
    for name, spec in study.models.items():
        _known(f"aligned.models.{name}.source", spec["source"], "source", study.config["sources"])


def _judges(study: Study) -> None:
    judges, sources = study.config["judges"], study.config["sources"]
    labelled = judges["labelled"] or {}
    for kind in ("refusal", "harm") if labelled else ():
        if labelled[kind]["source"] is not None:
            _known(f"judges.labelled.{kind}.source", labelled[kind]["source"], "source", sources)
    if labelled and "judge_train" not in study.config["prompts"]["roles"]:
        fix = (
            "judges.labelled trains judges on the requests of this role only, so that no other role's are among them;"
            " add {set: the set of the labelled files, n: all, kind: judge}, or set judges.labelled to null"
        )
        raise ConfigError("prompts.roles.judge_train", None, fix)
    if labelled:
        _enough(study, "judges.labelled.folds", labelled["folds"], "judge_train")
    elif (decision := judges.get("decision", "rules")) != "rules":
        fix = "needs judges.labelled, on which that judge is trained; or set it to rules"
        raise ConfigError("judges.decision", decision, fix)
    for name in ("harmbench", "strongreject"):
        spec = judges.get(name) or {}
        for key in ("source", "base"):
            if spec.get(key):
                _known(f"judges.{name}.{key}", spec[key], "source", sources)
        for part in ("template", "contextual_template"):
            if isinstance(given := spec.get(part), dict):
                _known(f"judges.{name}.{part}.source", given["source"], "source", sources)


def _listed(study: Study) -> None:
    """Anchors that are listed by regime."""
    c = study.config
    for key in ("sweep.checkpoints", "aligned.anchors", "transfer.sources", "transfer.targets"):
        section, name = key.split(".")
        for regime, anchors in c[section][name].items():
            if regime not in study.trajectories:
                known = ", ".join(study.trajectories)
                raise ConfigError(f"{key}.{regime}", anchors, f"no such regime; there are {known}")
            for anchor in anchors:
                if str(anchor) not in study.anchors(regime):
                    known = ", ".join(study.anchors(regime))
                    raise ConfigError(f"{key}.{regime}", anchor, f"no anchor of this regime; there are {known}")
    for regime, anchors in c["aligned"]["anchors"].items():
        for anchor in anchors:
            if (regime, str(anchor)) not in _places(study):
                fix = "add it to sweep.checkpoints, which gives its numbers"
                raise ConfigError(f"aligned.anchors.{regime}", anchor, fix)


def _targets(study: Study) -> None:
    s, known = study.config["sweep"], {target.id for target in study.targets()}
    for number, t in enumerate(s["primary"]):
        if (t["regime"], str(t["anchor"])) not in _places(study):
            raise ConfigError(f"sweep.primary[{number}]", f"{t['regime']}:{t['anchor']}", "not in sweep.checkpoints")
    for key, cells in (("sweep.primary", s["primary"]), ("sweep.generate.cells", s["generate"]["cells"])):
        for number, t in enumerate(cells):
            if Target.of(t).id not in known:
                fix = "no such target; its family, mode, lambda, scope and rank have to be among those of sweep"
                raise ConfigError(f"{key}[{number}]", Target.of(t).id, fix)
    directions = study.config["coupling"]["subspace_k"]
    if beyond := [k for k in s["ranks"] if k > max(1, directions)]:
        raise ConfigError("sweep.ranks", beyond[0], f"subspaces have coupling.subspace_k = {directions} directions")


def _answers(study: Study) -> None:
    c, s = study.config, study.config["sweep"]
    suites = set(c["completions"]["max_new_tokens"]) - {"fixed_source"}
    asked = {"sweep.generate.suites": s["generate"]["suites"], "follow_up.suites": c["follow_up"]["suites"]}
    for key, numbers in asked.items():
        for suite, n in numbers.items():
            if suite not in suites:
                fix = "not a suite of bare requests (direct, usefulness, lookalike, utility)"
                raise ConfigError(f"{key}.{suite}", n, fix)
            _enough(study, f"{key}.{suite}", n, suite)
    for side in ("harmful", "benign"):
        for suite in c["quadrants"][side]:
            _known(f"quadrants.{side}", suite, "suite", c["completions"]["max_new_tokens"])
    for kind, role in (("harmful", "direct"), ("benign", "utility")):
        _enough(study, f"sweep.prompts.{kind}", s["prompts"][kind], role)
    if c["follow_up"]["targets"] and not s["generate"]["cells"]:
        fix = "needs sweep.generate.cells to choose from; or set it to 0"
        raise ConfigError("follow_up.targets", c["follow_up"]["targets"], fix)


def _places(study: Study) -> set[tuple[str, str]]:
    """(regime or model, anchor) of every swept checkpoint."""
    return {(name, study.anchor_name(name, step)) for _, name, step in study.swept()}


def _known(key: str, name: str, kind: str, names: Collection[str]) -> None:
    if name not in names:
        raise ConfigError(key, name, f"no such {kind}; there are {', '.join(names) or 'none'}")


def _saved(study: Study, key: str, regime: str, step: int) -> None:
    if step not in (saves := study.steps(regime)):
        own = {name: f"checkpoints.{name}.steps" for name in study.brought}
        own |= {name: f"regimes.{name}.saves" for name, settings in study.regimes.items() if "saves" in settings}
        where = own.get(regime, "train.saves")
        raise ConfigError(key, step, f"this step is never saved; add it to {where} (now {saves})")


def _enough(study: Study, key: str, wanted: int, role: str) -> None:
    """A role holds as many prompts as a setting takes of it. How many `all` or `published` are is not known before they are
    fetched."""
    most = study.config["prompts"]["roles"][role]["n"]
    if isinstance(most, int) and wanted > most:
        raise ConfigError(key, wanted, f"role {role} has only {most} prompts")


CHECKS = (
    _words, _files, _names, _own, _anchors, _schedule, _attacks, _prompts, _pool, _processes, _models, _judges, _listed, _behaviour,
    _targets, _answers, _searches, _tiny,
)  # fmt: skip
