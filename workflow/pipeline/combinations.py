"""Combinations of settings that cannot work, with messages that name the key, the value and what to do."""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import yaml

from pipeline.config_check import ConfigError
from pipeline.costs.shapes import tiny as tiny_shape
from pipeline.layout import ATTACKED_SUITES, TEMPLATES
from pipeline.limits import layers_of, limits_of
from pipeline.study import Study
from safety_geometry.causal.plan import Target
from safety_geometry.models.limits import Asked, faults

DATA = Path(__file__).resolve().parents[2] / "data"
WORDS = {"none", "nan", "na", "nil", "y", "n"}  # besides what YAML and Python read as a value
WILDCARD = re.compile(r"\{\s*[.\w]+\s*[,}]")  # Snakemake's, which it looks for in every path
TEXT = "tag:yaml.org,2002:str"
ANSWERED = ("ultrachat", "jsonl")  # formats of prompts with answers, which clean rows may take
TAKEN_BY_JUDGES = ("refusal_rules", "refusal_trained", "harm_trained", "not_refused", "quality_rules", "utility_rules")
GCG_INIT, RANDOM = " !", "random"  # `GCGConfig.init` where a configuration has none, and the start drawn by seed


def check_combinations(study: Study) -> None:
    """Raises ConfigError on a combination of settings that cannot work; what is within one section, `settings`
    checks."""
    for check in CHECKS:
        check(study)


# ---------------------------------------------------------------------------------------------------- names and files


def _words(study: Study) -> None:
    """Names that YAML, Python or a table's reader takes for a value, that are taken, or that some disks cannot tell
    apart."""
    config, prompts = study.config, study.config["prompts"]
    named = {
        "study": [config["study"]],
        "sources": config["sources"],
        "prompts.sets": prompts["sets"],
        "prompts.roles": prompts["roles"],
        "regimes": study.regimes,
        "checkpoints": study.brought,
        "aligned.models": study.models,
        "judges.models": study.model_judges,
        "sweep.directions": study.directions,
    }
    for key, names in named.items():
        for name in names:
            check_word(key, name)
        if both := [word for word, n in Counter(name.casefold() for name in names).items() if n > 1]:
            alike = [name for name in names if name.casefold() == both[0]]
            raise ConfigError(
                key, alike, "these differ in capitals only, and some disks do not; call one something else"
            )
    for suite in ("framings", *ATTACKED_SUITES):
        if suite in prompts["roles"]:
            raise ConfigError("prompts.roles", suite, "a suite of attacks has this name; call it something else")


def check_word(key: str, name: str) -> None:
    """Raises ConfigError for a name that is a value to some reader."""
    if reads_as_value(name):
        raise ConfigError(
            key,
            name,
            "a name that is read as a number, a truth value or nothing, by YAML or in a table; call it something else",
        )


def reads_as_value(name: str) -> bool:
    """Whether YAML takes an unquoted name for something else than text, or a reader of tables takes it for a number or
    for nothing."""
    if yaml.resolver.Resolver().resolve(yaml.ScalarNode, name, (True, False)) != TEXT or name.casefold() in WORDS:
        return True
    with contextlib.suppress(ValueError):
        float(name)
        return True
    return False


def _entries(study: Study) -> dict[str, Mapping]:
    """Key -> every entry that names a source, or a file of this machine."""
    config, judges = study.config, study.config["judges"]
    entries = {"judges": judges, "model": config["model"]}
    if config["model"]["format"] == "tiny":  # made here: its source is not looked at
        entries["model"] = config["model"] | {"source": None}
    for name, trajectory in study.brought.items():
        key = f"checkpoints.{name}"
        entries |= {key: trajectory} | ({f"{key}.base": trajectory["base"]} if "base" in trajectory else {})
        entries |= {f"{key}.steps.{step}": entry for step, entry in trajectory["steps"].items()}
    entries |= {f"aligned.models.{name}": model for name, model in study.models.items()}
    for name, prompts in config["prompts"]["sets"].items():
        key = f"prompts.sets.{name}"
        entries |= {key: prompts} | ({f"{key}.targets": prompts["targets"]} if "targets" in prompts else {})
    if judges["labelled"]:
        entries |= {f"judges.labelled.{kind}": judges["labelled"][kind] for kind in study.layout.labelled_kinds()}
    if study.embeddings:
        entries["judges.embeddings"] = study.embeddings
    for name, judge in study.model_judges.items():
        key = f"judges.models.{name}"
        templates = {part: judge[part] for part in TEMPLATES if isinstance(judge.get(part), Mapping)}
        entries |= {key: judge} | {f"{key}.{part}": entry for part, entry in templates.items()}
    return entries


def _files(study: Study) -> None:
    """Paths that Snakemake or a script's command line takes for something else, and patterns that leave their
    source."""
    for key, path in _local_files(study):
        if wildcard := WILDCARD.search(path):
            raise ConfigError(
                key,
                path,
                f"Snakemake takes {wildcard[0]} for a wildcard; rename the file, or copy it to a name without braces",
            )
        if path.startswith(("-", "~")):
            raise ConfigError(
                key, path, f"a path that begins with {path[0]} is taken for something else; write it in full, from / on"
            )
    for key, pattern in _patterns(study):
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ConfigError(key, pattern, "has to be a file within the source, without / before it and without ..")


def _local_files(study: Study) -> Iterator[tuple[str, str]]:
    """(key, path) of every file that is named by its place on this machine."""
    yield from ((f"sweep.directions.{name}.file", spec["file"]) for name, spec in study.directions.items())
    for key, entry in _entries(study).items():
        for name in ("chat_template", "hand_labels", *TEMPLATES):
            if isinstance(path := entry.get(name), str):
                yield f"{key}.{name}", path
        if not entry.get("source"):
            yield from ((f"{key}.files", path) for path in entry.get("files", []))


def _patterns(study: Study) -> Iterator[tuple[str, str]]:
    """(key, pattern) of every file that is looked for within a source."""
    for name, source in study.config["sources"].items():
        for member in source.get("members", []):
            yield f"sources.{name}.members", member if isinstance(member, str) else member["path"]
        for part in source.get("parts", []):
            yield f"sources.{name}.parts", part["file"]
        if "file" in source:
            yield f"sources.{name}.file", source["file"]
    for key, entry in _entries(study).items():
        if entry.get("source"):
            yield from ((f"{key}.files", pattern) for pattern in entry.get("files", []))
            if "file" in entry:
                yield f"{key}.file", entry["file"]


def _sources(study: Study) -> None:
    for key, entry in _entries(study).items():
        for name in ("source", "base"):
            if isinstance(source := entry.get(name), str):
                _known(f"{key}.{name}", source, "source", study.config["sources"])


# ------------------------------------------------------------------------------------------- checkpoints and training


def _names(study: Study) -> None:
    """Regimes, checkpoints and aligned models stand beside each other in tables and folders."""
    config = study.config
    for key, names in (("checkpoints", study.brought), ("aligned.models", study.models)):
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
    if study.regimes and config["model"]["format"] is None:
        raise ConfigError("model.format", None, "the regimes are trained from this model; set source and format")
    if not study.regimes and len(study.all_seeds) > 1 and not config["prompts"]["per_seed"]:
        raise ConfigError(
            "seeds" if len(study.seeds) > 1 else "light_seeds",
            study.all_seeds,
            "nothing is trained here and prompts are the same under every seed, so that another one would repeat every"
            " checkpoint; keep one, or set prompts.per_seed to true",
        )
    if both := sorted(set(study.seeds) & set(study.light_seeds)):
        raise ConfigError("light_seeds", both[0], "this seed is among seeds, which have everything; name others")


def _brought(study: Study) -> None:
    """Checkpoints that were not trained here."""
    for name, trajectory in study.brought.items():
        key, anchors = f"checkpoints.{name}", trajectory.get("anchors", [])
        _saved(study, f"{key}.reference", name, trajectory["reference"])
        for anchor in anchors:
            _saved(study, f"{key}.anchors", name, anchor)
        if trajectory["reference"] in anchors:
            raise ConfigError(
                f"{key}.anchors",
                trajectory["reference"],
                "this is the reference, which is an anchor already; take it out of the anchors",
            )
        adapters = [step for step, entry in trajectory["steps"].items() if entry["format"] == "adapter"]
        if adapters and "base" not in trajectory and study.config["model"]["format"] is None:
            raise ConfigError(
                f"{key}.steps.{adapters[0]}.format",
                "adapter",
                f"an adapter needs the model that it was trained on: name it in {key}.base, or in model",
            )
        if "base" in trajectory and not adapters:
            raise ConfigError(
                f"{key}.base",
                trajectory["base"]["source"],
                "no step has format adapter, so that nothing would be put on this base; take it out",
            )


def _anchors(study: Study) -> None:
    for regime, settings in study.regimes.items():
        for name, step in study.anchors(regime).items():
            key = f"regimes.{regime}.reference" if name == "reference" else "anchors"
            _saved(study, key, regime, step)
            if name != "reference" and step == settings["reference"]:
                raise ConfigError(
                    f"regimes.{regime}.reference",
                    step,
                    "an anchor has this step already; choose another step, or take it out of the anchors",
                )
        if settings["kind"] == "r2d2" and "refresh" not in settings:
            raise ConfigError(f"regimes.{regime}.refresh", None, "an r2d2 regime needs refresh: true or false")


def _schedule(study: Study) -> None:
    """No step is trained beyond the end of the cosine."""
    for regime, settings in study.regimes.items():
        last, length = study.steps(regime)[-1], study.config["train"]["schedule_steps"]
        if last > length:
            key = f"regimes.{regime}.saves" if "saves" in settings else "train.saves"
            raise ConfigError(
                key,
                last,
                f"the learning rate is 0 beyond train.schedule_steps ({length}); take the later saves out, or raise"
                " schedule_steps, which changes the learning rate of every step",
            )


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
    """Each process of a training job has to have a row of a step, and on GPUs a GPU of its own."""
    processes = study.processes
    for regime, settings in study.regimes.items():
        pool = study.config["pool"]
        attacked = pool["per_step"] * (2 + pool["plain_toward"]) if settings["kind"] == "r2d2" else 0
        if processes > (rows := study.config["train"]["rows"] + attacked):
            raise ConfigError(
                "train.processes",
                processes,
                f"a step of regime {regime} has {rows} rows to share; start fewer processes, or raise train.rows",
            )
    if processes > 1 and study.config["model"]["device"].startswith("cuda:"):
        raise ConfigError(
            "model.device",
            study.config["model"]["device"],
            f"is one GPU, and train.processes = {processes} need one each; write cuda",
        )


def _tiny(study: Study) -> None:
    """What a model that is made here cannot do. Of others this is known once they are fetched: the rule
    model_layers."""
    model = study.config["model"]
    if model["format"] != "tiny" or not study.regimes:
        return
    tiny = model["tiny"]
    shape = {
        "num_hidden_layers": tiny["layers"],
        "hidden_size": tiny["hidden"],
        "num_attention_heads": tiny["heads"],
        "num_key_value_heads": tiny_shape(tiny).kv_heads,
        "vocab_size": tiny["vocabulary"],
        "max_position_embeddings": tiny.get("context", 512),
    }
    beyond = list(faults("base", shape, Asked(layers_of(study, "base"), **limits_of(study, "base"))))
    if beyond:
        raise ConfigError(faults=[(fault.partition(" ")[0], fault) for fault in beyond])
    linear = [f"self_attn.{part}_proj" for part in "qkvo"] + [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    modules = [f".model.layers.{n}.{name}" for n in range(tiny["layers"]) for name in linear]
    modules += [".model.embed_tokens", ".lm_head"]
    for target in study.config["lora"]["targets"]:
        if not any(module.endswith(f".{target}") for module in modules):
            known = ", ".join(name.split(".")[-1] for name in linear)
            raise ConfigError("lora.targets", target, f"the tiny model has no such module; it has {known}")


# ------------------------------------------------------------------------------------------------ prompts and answers


def _prompts(study: Study) -> None:
    config, roles, sets = study.config, study.config["prompts"]["roles"], study.config["prompts"]["sets"]
    completions, clean = config["completions"], config["clean_rows"]["roles"] if study.regimes else []
    if lacks := sorted(set(completions["max_new_tokens"]) - {*roles, "framings", *ATTACKED_SUITES}):
        fix = "no role of this name: add it to prompts.roles, or set completions.max_new_tokens of it to null"
        raise ConfigError("completions.max_new_tokens", lacks[0], fix)
    if unknown := set(completions["every_save"]) - set(completions["max_new_tokens"]):
        raise ConfigError("completions.every_save", sorted(unknown), "not a suite of completions.max_new_tokens")
    for suite, n in completions["every_save"].items():
        if suite in study.suites_left_out:
            raise ConfigError(f"completions.every_save.{suite}", n, "the study makes no such attack; see attacks")
        if suite == "framings" and n is not None and n % (templates := config["attacks"]["framings"]):
            fix = f"has to be a multiple of attacks.framings = {templates}, the rows of a request"
            raise ConfigError(f"completions.every_save.{suite}", n, fix)
        if n is not None and suite in roles:
            _enough(study, f"completions.every_save.{suite}", n, suite)
    for name, role in roles.items():
        for wanted in _sets(role):
            _known(f"prompts.roles.{name}.set", wanted, "set", sets)
        for key in ("shares", "pairs"):
            if key in role:
                _known(f"prompts.roles.{name}.{key}", role[key], "role", roles)
    for name, prompts in sets.items():
        if "targets" in prompts and prompts["format"] != "harmbench_csv":
            raise ConfigError(
                f"prompts.sets.{name}.targets",
                prompts["format"],
                "goes with format harmbench_csv, whose behaviours have the ids that a targets file is written by",
            )
    for name in clean:
        _known("clean_rows.roles", name, "role", roles)
        for wanted in _sets(roles[name]) if study.answered else ():
            if (form := sets[wanted]["format"]) not in ANSWERED:
                raise ConfigError(
                    "clean_rows.answers",
                    "data",
                    f"role {name} has prompts without answers (set {wanted}, format {form}); only"
                    f" {' and '.join(ANSWERED)} have them",
                )
    for kind in ("harmful", "benign"):
        _enough(study, "refusal.validation", config["refusal"]["validation"], f"select_{kind}")
    refusal = config["refusal"]
    if (screen := refusal["screen"]) > refusal["validation"] - 2:
        raise ConfigError(
            "refusal.screen",
            screen,
            f"leaves fewer than 2 of the {refusal['validation']} prompts (refusal.validation) that a choice is measured"
            " on; lower it",
        )


def _sets(role: Mapping) -> list[str]:
    return role["set"] if isinstance(role["set"], list) else [role["set"]]


def _judges(study: Study) -> None:
    judges, labelled = study.config["judges"], study.config["judges"]["labelled"]
    if labelled and "judge_train" not in study.config["prompts"]["roles"]:
        raise ConfigError(
            "prompts.roles.judge_train",
            None,
            "judges.labelled trains judges on the requests of this role only, so that no other role's are among them;"
            " add {set: the set of the labelled files, n: all, kind: judge}, or set judges.labelled to null",
        )
    if labelled and "judge_train" not in study.judge_roles:
        kind = study.config["prompts"]["roles"]["judge_train"]["kind"]
        raise ConfigError(
            "prompts.roles.judge_train.kind", kind, "has to be judge: judges are trained once, for all seeds"
        )
    for name in study.judge_roles:
        if study.config["prompts"]["roles"][name]["n"] == "published":
            raise ConfigError(
                f"prompts.roles.{name}.n", "published", "a judge yields to evaluation prompts; write all, or a number"
            )
    if labelled:
        _enough(study, "judges.labelled.folds", labelled["folds"], "judge_train")
    elif (decision := judges.get("decision", "rules")) != "rules" and not judges.get("refusal"):
        raise ConfigError(
            "judges.decision",
            decision,
            "needs judges.labelled, on which that judge is trained, or a model in judges.refusal; or set it to rules",
        )
    _deciding_models(study)


def _deciding_models(study: Study) -> None:
    """Judges that are models, where they decide something."""
    for place, name in study.deciding_models.items():
        key, target = f"judges.{place}", "refusal" if place == "refusal" else "harm"
        _known(key, name, "judge", study.model_judges)
        judge = study.model_judges[name]
        if target not in judge["says"]:
            raise ConfigError(
                key, name, f"this judge says nothing of {target}; add {target} to judges.models.{name}.says"
            )
        if judge.get("unread") == "leave_out":
            raise ConfigError(
                f"judges.models.{name}.unread",
                "leave_out",
                f"it decides {place}, and an answer needs a verdict; take it out",
            )
    for name in study.model_judges:
        if name in TAKEN_BY_JUDGES:
            raise ConfigError("judges.models", name, "a judge of this project has this name; call it something else")


def _attacks(study: Study) -> None:
    attacks, transfer = study.config["attacks"], study.config["transfer"]
    regime, step = study.fixed_source
    _known("attacks.source.regime", regime, "regime", study.trajectories)
    _saved(study, "attacks.source.step", regime, step)
    _enough(study, "attacks.behaviours", attacks["behaviours"], "direct")
    if transfer["behaviours"] > attacks["behaviours"]:
        raise ConfigError(
            "transfer.behaviours",
            transfer["behaviours"],
            f"only attacks.behaviours ({attacks['behaviours']}) are chosen",
        )
    templates = len((DATA / "autodan_seeds.jsonl").read_text(encoding="utf-8").splitlines())
    for key, wanted in (("autodan.seeds", attacks["autodan"]["seeds"]), ("framings", attacks["framings"])):
        if wanted > templates:
            raise ConfigError(f"attacks.{key}", wanted, f"data/autodan_seeds.jsonl has {templates}")
    _starts(study)
    _drafts(study)
    if universal := attacks.get("universal"):
        _universal(study, universal)


def _starts(study: Study) -> None:
    """An attack that starts where the pool starts begins at a string that training taught the model to refuse."""
    if not any(settings["kind"] == "r2d2" for settings in study.regimes.values()):
        return
    start, pool = (study.config[section]["gcg"].get("init", GCG_INIT) for section in ("attacks", "pool"))
    if start == pool != RANDOM:
        raise ConfigError(
            "attacks.gcg.init",
            start,
            f"is the start of pool.gcg too, a string that r2d2 regimes are trained to refuse; write {RANDOM}, or"
            " another token",
        )


def _drafts(study: Study) -> None:
    """A draft in bfloat16 is of a model in another dtype."""
    if study.config["model"]["dtype"] != "bfloat16":
        return
    for section in ("attacks", "pool"):
        probe = study.config.get(section, {}).get("gcg", {}).get("probe")
        if probe and probe.get("draft") == "bfloat16":
            raise ConfigError(
                f"{section}.gcg.probe.draft",
                "bfloat16",
                "is the dtype of the model (model.dtype) too; write probe: null",
            )


def _universal(study: Study, universal: Mapping) -> None:
    key, gcg = "attacks.universal", study.config["attacks"]["gcg"]
    roles = study.config["prompts"]["roles"]
    _known(f"{key}.role", universal["role"], "role", roles)
    for name in _sets(roles[universal["role"]]):
        label = study.config["prompts"]["sets"].get(name, {}).get("label")
        if label not in (None, "harmful"):
            raise ConfigError(f"{key}.role", universal["role"], f"its set {name} is {label}; attacks need harmful ones")
    _enough(study, f"{key}.behaviours", universal["behaviours"], universal["role"])
    if universal["width"] > (most := gcg["suffix_length"] * gcg["top_k"]):
        raise ConfigError(f"{key}.width", universal["width"], f"suffix_length times top_k gives only {most} candidates")


# ------------------------------------------------------------------------------------------------ geometry and sweeps


def _carriers(study: Study) -> None:
    config, roles = study.config, study.config["prompts"]["roles"]
    position, positions = config["harmfulness"]["position"], config["activations"]["positions"]
    if position != "t_inst" and position not in positions:
        raise ConfigError("harmfulness.position", position, f"not in activations.positions ({positions}); add it there")
    if not study.by_behaviour:
        return
    if swept := study.swept():
        raise ConfigError(
            "refusal.contrast",
            "behaviour",
            f"the controls of the causal sweep contrast prompts, and {swept[0][1]} is swept; leave sweep.checkpoints,"
            " sweep.primary, aligned.anchors and aligned.models empty (null, and [] for sweep.primary)",
        )
    sizes = [roles[f"fit_{kind}"]["n"] for kind in ("harmful", "benign")]
    if all(isinstance(n, int) for n in sizes) and sum(sizes) < 2 * config["refusal"]["class_min"]:
        raise ConfigError(
            "refusal.class_min",
            config["refusal"]["class_min"],
            f"roles fit_harmful and fit_benign have {sum(sizes)} prompts together, too few for two such classes",
        )


def _listed(study: Study) -> None:
    """Anchors that are listed by regime."""
    for key in ("sweep.checkpoints", "aligned.anchors", "transfer.sources", "transfer.targets"):
        section, name = key.split(".")
        for regime, anchors in study.config[section][name].items():
            if regime not in study.trajectories:
                known = ", ".join(study.trajectories)
                raise ConfigError(f"{key}.{regime}", anchors, f"no such regime; there are {known}")
            for anchor in anchors:
                if str(anchor) not in study.anchors(regime):
                    known = ", ".join(study.anchors(regime))
                    raise ConfigError(f"{key}.{regime}", anchor, f"no anchor of this regime; there are {known}")
                if key == "aligned.anchors" and (regime, str(anchor)) not in _places(study):
                    raise ConfigError(f"{key}.{regime}", anchor, "add it to sweep.checkpoints, which gives its numbers")


def _targets(study: Study) -> None:
    sweep, known = study.config["sweep"], {target.id for target in study.targets()}
    primary, places = study.primary(), _places(study)
    for number, place, _ in primary:
        if place not in places:
            raise ConfigError(f"sweep.primary[{number}]", ":".join(place), "not in sweep.checkpoints")
    answering = map(Target.of, sweep["generate"]["cells"])
    named = [(f"sweep.primary[{number}]", target) for number, _, target in primary]
    named += [(f"sweep.generate.cells[{number}]", target) for number, target in enumerate(answering)]
    for key, target in named:
        if target.id not in known:
            raise ConfigError(
                key,
                target.id,
                "no such target; its family, mode, lambda, scope and rank have to be among those of sweep",
            )
    _decidable([regime for _, (regime, _), _ in primary], sweep["permutations"])
    directions = study.config["coupling"]["subspace_k"]
    for rank in sweep["ranks"]:
        if rank > max(1, directions):
            raise ConfigError("sweep.ranks", rank, f"subspaces have coupling.subspace_k = {directions} directions")


def _decidable(regimes: list[str], permutations: int) -> None:
    """So many directions can give a p that stays below .05 after Holm over a regime's primary cells; `regimes`: of each
    cell."""
    for regime, cells in Counter(regimes).items():
        if cells / (1 + permutations) >= 0.05:
            raise ConfigError(
                "sweep.permutations",
                permutations,
                f"{cells} primary cells of {regime} could not reach p < .05 after Holm's correction (least"
                f" {cells}/(1 + {permutations}) = {cells / (1 + permutations):.3g}); take at least {20 * cells}"
                " directions, or fewer cells in sweep.primary",
            )


def _answers(study: Study) -> None:
    config, sweep, follow_up = study.config, study.config["sweep"], study.config["follow_up"]
    suites = set(config["completions"]["max_new_tokens"]) - {"framings", *ATTACKED_SUITES}
    for key, numbers in (("sweep.generate", sweep["generate"]["suites"]), ("follow_up", follow_up["suites"])):
        for suite, n in numbers.items():
            if suite not in suites:
                raise ConfigError(
                    f"{key}.suites.{suite}", n, "not a suite of bare requests (direct, usefulness, lookalike, utility)"
                )
            _enough(study, f"{key}.suites.{suite}", n, suite)
    for side in ("harmful", "benign"):
        for suite in config["quadrants"][side]:
            _known(f"quadrants.{side}", suite, "suite", config["completions"]["max_new_tokens"])
    for kind, role in (("harmful", "direct"), ("benign", "utility")):
        _enough(study, f"sweep.prompts.{kind}", sweep["prompts"][kind], role)
        if asked := sweep.get("reply_inversion"):
            _enough(study, f"sweep.reply_inversion.prompts.{kind}", asked["prompts"][kind], role)
    if follow_up["targets"] and not sweep["generate"]["cells"]:
        raise ConfigError(
            "follow_up.targets", follow_up["targets"], "needs sweep.generate.cells to choose from; or set it to 0"
        )


def _places(study: Study) -> set[tuple[str, str]]:
    """(regime or model, anchor) of every swept checkpoint."""
    return {(name, study.anchor_name(name, step)) for _, name, step in study.swept()}


# -------------------------------------------------------------------------------------------------- what many look at


def _known(key: str, name: str, kind: str, names: Collection[str]) -> None:
    if name not in names:
        raise ConfigError(key, name, f"no such {kind}; there are {', '.join(names) or 'none'}")


def _saved(study: Study, key: str, regime: str, step: int) -> None:
    if step not in (saves := study.steps(regime)):
        where = "train.saves"
        if regime in study.brought:
            where = f"checkpoints.{regime}.steps"
        elif "saves" in study.regimes[regime]:
            where = f"regimes.{regime}.saves"
        raise ConfigError(key, step, f"this step is never saved; add it to {where} (now {saves})")


def _enough(study: Study, key: str, wanted: int, role: str) -> None:
    """A role holds as many prompts as a setting takes of it. How many `all` or `published` are is not known before they
    are fetched."""
    most = study.config["prompts"]["roles"][role]["n"]
    if isinstance(most, int) and wanted > most:
        raise ConfigError(key, wanted, f"role {role} has only {most} prompts")


CHECKS = (
    _words, _files, _names, _brought, _sources, _anchors, _schedule, _attacks, _listed, _prompts, _pool, _processes,
    _judges, _carriers, _targets, _answers, _tiny,
)  # fmt: skip
