"""Combinations of settings that cannot work, with messages that name the key, the value and what to do."""

from study import Study


class ConfigError(SystemExit):
    """Ends the start of the workflow: names the key, its value and what to do."""

    def __init__(self, key: str, value: object, fix: str):
        super().__init__(f"config error: {key} = {value!r}: {fix}")


def check_combinations(study: Study) -> None:
    """Raises ConfigError on a combination that a schema cannot see."""
    c, saves = study.config, study.saves
    for regime, settings in study.regimes.items():
        for name, step in study.anchors(regime).items():
            if step not in saves:
                key = f"regimes.{regime}.reference" if name == "reference" else "anchors"
                raise ConfigError(key, step, f"this step is never saved; add it to train.saves (now {saves})")
        if settings["kind"] == "r2d2" and "refresh" not in settings:
            raise ConfigError(f"regimes.{regime}.refresh", None, "an r2d2 regime needs refresh: true or false")
    source = c["attacks"]["source"]
    if source["regime"] not in study.regimes:
        raise ConfigError(
            "attacks.source.regime", source["regime"], f"no such regime; there are {', '.join(study.regimes)}"
        )
    if source["step"] not in saves:
        raise ConfigError("attacks.source.step", source["step"], f"this step is never saved; train.saves is {saves}")
    _check_sweep(study)
    if study.by_behaviour:
        _check_behaviour(study)
    unknown = set(c["completions"]["every_save"]) - set(c["completions"]["max_new_tokens"])
    if unknown:
        raise ConfigError("completions.every_save", sorted(unknown), "not a suite of completions.max_new_tokens")
    p = c["prompts"]
    for name, spec in p["roles"].items():
        for each in spec["set"] if isinstance(spec["set"], list) else [spec["set"]]:
            if each not in p["sets"]:
                raise ConfigError(f"prompts.roles.{name}.set", each, f"no such set; there are {', '.join(p['sets'])}")
    for name in c["clean_rows"]["roles"]:
        if name not in p["roles"]:
            raise ConfigError("clean_rows.roles", name, f"no such role; there are {', '.join(p['roles'])}")
    for name, spec in p["sets"].items():
        if spec["source"] is not None and spec["source"] not in c["sources"]:
            raise ConfigError(
                f"prompts.sets.{name}.source",
                spec["source"],
                f"no such source; there are {', '.join(c['sources'])}",
            )
    for kind in ("harmful", "benign"):
        n = p["roles"][f"select_{kind}"]["n"]
        if n != "all" and c["refusal"]["validation"] > n:
            raise ConfigError(
                "refusal.validation", c["refusal"]["validation"], f"role select_{kind} has only {n} prompts"
            )
    size = c["pool"]["size"]
    if c["pool"]["per_step"] > size:
        raise ConfigError("pool.per_step", c["pool"]["per_step"], f"must be at most pool.size ({size})")
    needed, have = size, p["roles"]["train_pool"]["n"]
    if have != "all" and needed > have:
        raise ConfigError("pool.size", size, f"role train_pool has only {have} behaviours")
    if c["attacks"]["behaviours"] > (p["roles"]["direct"]["n"] if p["roles"]["direct"]["n"] != "all" else 10**9):
        raise ConfigError("attacks.behaviours", c["attacks"]["behaviours"], "more than role direct has")


def _check_behaviour(study: Study) -> None:
    c, roles = study.config, study.config["prompts"]["roles"]
    if swept := study.swept():
        fix = "leave sweep.checkpoints, sweep.primary, aligned.anchors and aligned.models empty"
        why = f"the controls of the causal sweep contrast prompts, and {swept[0][1]} is swept"
        raise ConfigError("refusal.contrast", "behaviour", f"{why}; {fix}")
    sizes = [roles[f"fit_{kind}"]["n"] for kind in ("harmful", "benign")]
    if "all" not in sizes and sum(sizes) < 2 * c["refusal"]["class_min"]:
        fix = f"roles fit_harmful and fit_benign have {sum(sizes)} prompts together, too few for two such classes"
        raise ConfigError("refusal.class_min", c["refusal"]["class_min"], fix)


def _check_sweep(study: Study) -> None:
    c, s, suites = study.config, study.config["sweep"], study.config["completions"]["max_new_tokens"]
    if both := sorted(set(study.models) & set(study.regimes)):
        raise ConfigError("aligned.models", both[0], "a regime has this name; call the model something else")
    for name, spec in study.models.items():
        if spec["source"] not in c["sources"]:
            known = ", ".join(c["sources"]) or "none"
            raise ConfigError(f"aligned.models.{name}.source", spec["source"], f"no such source; there are {known}")
    for key in ("sweep.checkpoints", "aligned.anchors"):
        for regime, anchors in c[key.split(".")[0]][key.split(".")[1]].items():
            if regime not in study.regimes:
                raise ConfigError(f"{key}.{regime}", anchors, f"no such regime; there are {', '.join(study.regimes)}")
            for anchor in anchors:
                if str(anchor) not in study.anchors(regime):
                    known = ", ".join(study.anchors(regime))
                    raise ConfigError(f"{key}.{regime}", anchor, f"no anchor of this regime; there are {known}")
    swept = {(r, str(a)) for r, anchors in s["checkpoints"].items() for a in anchors} | {
        (m, "model") for m in study.models
    }
    for regime, anchors in c["aligned"]["anchors"].items():
        for anchor in anchors:
            if (regime, str(anchor)) not in swept:
                raise ConfigError(
                    f"aligned.anchors.{regime}", anchor, "add it to sweep.checkpoints, which gives its numbers"
                )
    known = {study.target_id(t) for t in study.targets()}
    for number, t in enumerate(s["primary"]):
        if (t["regime"], str(t["anchor"])) not in swept:
            raise ConfigError(f"sweep.primary[{number}]", f"{t['regime']}:{t['anchor']}", "not in sweep.checkpoints")
    for key, cells in (("sweep.primary", s["primary"]), ("sweep.generate.cells", s["generate"]["cells"])):
        for number, t in enumerate(cells):
            if study.target_id(t) not in known:
                fix = "no such target; its family, mode, lambda, scope and rank have to be among those of sweep"
                raise ConfigError(f"{key}[{number}]", study.target_id(t), fix)
    for key, asked in (
        ("sweep.generate.suites", s["generate"]["suites"]),
        ("follow_up.suites", c["follow_up"]["suites"]),
    ):
        for suite, n in asked.items():
            if suite not in suites or suite == "fixed_source":
                raise ConfigError(
                    f"{key}.{suite}", n, "not a suite of bare requests (direct, usefulness, lookalike, utility)"
                )
            most = c["prompts"]["roles"][suite]["n"]
            if most != "all" and n > most:
                raise ConfigError(f"{key}.{suite}", n, f"role {suite} has only {most} prompts")
    for kind, suite in (("harmful", "direct"), ("benign", "utility")):
        most = c["prompts"]["roles"][suite]["n"]
        if most != "all" and s["prompts"][kind] > most:
            raise ConfigError(f"sweep.prompts.{kind}", s["prompts"][kind], f"role {suite} has only {most} prompts")
    beyond = [k for k in s["ranks"] if k > 1 and k > c["coupling"]["subspace_k"]]
    if beyond:
        raise ConfigError(
            "sweep.ranks",
            beyond[0],
            f"subspaces have coupling.subspace_k = {c['coupling']['subspace_k']} directions",
        )
    if c["follow_up"]["targets"] and not any(t["family"] for t in s["generate"]["cells"]):
        raise ConfigError(
            "follow_up.targets",
            c["follow_up"]["targets"],
            "needs sweep.generate.cells to choose from; or set it to 0",
        )
