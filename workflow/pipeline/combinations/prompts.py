"""Roles and sets of prompts, what is answered, and who judges it."""

from pipeline.combinations.needed import require_enough, require_known
from pipeline.config_check import ConfigError
from pipeline.layout import ATTACKED_SUITES
from pipeline.study import Study

ANSWERED = ("ultrachat", "jsonl")  # formats of prompts with answers, which clean rows may take
TAKEN_BY_JUDGES = ("refusal_rules", "refusal_trained", "harm_trained", "not_refused", "quality_rules", "utility_rules")


def check_prompts(study: Study) -> None:
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
            require_enough(study, f"completions.every_save.{suite}", n, suite)
    for name, role in roles.items():
        for wanted in study.sets_of(name):
            require_known(f"prompts.roles.{name}.set", wanted, "set", sets)
        for key in ("shares", "pairs"):
            if key in role:
                require_known(f"prompts.roles.{name}.{key}", role[key], "role", roles)
    for name, prompts in sets.items():
        if "targets" in prompts and prompts["format"] != "harmbench_csv":
            raise ConfigError(
                f"prompts.sets.{name}.targets",
                prompts["format"],
                "goes with format harmbench_csv, whose behaviours have the ids that a targets file is written by",
            )
    for name in clean:
        require_known("clean_rows.roles", name, "role", roles)
        for wanted in study.sets_of(name) if study.answered else ():
            if (form := sets[wanted]["format"]) not in ANSWERED:
                raise ConfigError(
                    "clean_rows.answers",
                    "data",
                    f"role {name} has prompts without answers (set {wanted}, format {form}); only"
                    f" {' and '.join(ANSWERED)} have them",
                )
    for kind in ("harmful", "benign"):
        require_enough(study, "refusal.validation", config["refusal"]["validation"], f"select_{kind}")
    refusal = config["refusal"]
    if (screen := refusal["screen"]) > refusal["validation"] - 2:
        raise ConfigError(
            "refusal.screen",
            screen,
            f"leaves fewer than 2 of the {refusal['validation']} prompts (refusal.validation) that a choice is measured"
            " on; lower it",
        )


def check_judges(study: Study) -> None:
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
        require_enough(study, "judges.labelled.folds", labelled["folds"], "judge_train")
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
        require_known(key, name, "judge", study.model_judges)
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
