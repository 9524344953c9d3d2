"""Carriers, and what a sweep edits and asks."""

from collections import Counter

from pipeline.combinations.needed import require_enough, require_known
from pipeline.config_check import ConfigError
from pipeline.layout import ATTACKED_SUITES
from pipeline.study import Study
from safety_geometry.causal.plan import Target


def check_carriers(study: Study) -> None:
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


def check_listed(study: Study) -> None:
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
                if key == "aligned.anchors" and (regime, str(anchor)) not in swept_places(study):
                    raise ConfigError(f"{key}.{regime}", anchor, "add it to sweep.checkpoints, which gives its numbers")


def check_targets(study: Study) -> None:
    sweep, known = study.config["sweep"], {target.id for target in study.targets()}
    primary, places = study.primary(), swept_places(study)
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
    check_decidable([regime for _, (regime, _), _ in primary], sweep["permutations"])
    directions = study.config["coupling"]["subspace_k"]
    for rank in sweep["ranks"]:
        if rank > max(1, directions):
            raise ConfigError("sweep.ranks", rank, f"subspaces have coupling.subspace_k = {directions} directions")


def check_decidable(regimes: list[str], permutations: int) -> None:
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


def check_answers(study: Study) -> None:
    config, sweep, follow_up = study.config, study.config["sweep"], study.config["follow_up"]
    suites = set(config["completions"]["max_new_tokens"]) - {"framings", *ATTACKED_SUITES}
    for key, numbers in (("sweep.generate", sweep["generate"]["suites"]), ("follow_up", follow_up["suites"])):
        for suite, n in numbers.items():
            if suite not in suites:
                raise ConfigError(
                    f"{key}.suites.{suite}", n, "not a suite of bare requests (direct, usefulness, lookalike, utility)"
                )
            require_enough(study, f"{key}.suites.{suite}", n, suite)
    for side in ("harmful", "benign"):
        for suite in config["quadrants"][side]:
            require_known(f"quadrants.{side}", suite, "suite", config["completions"]["max_new_tokens"])
    for kind, role in (("harmful", "direct"), ("benign", "utility")):
        require_enough(study, f"sweep.prompts.{kind}", sweep["prompts"][kind], role)
        if asked := sweep.get("reply_inversion"):
            require_enough(study, f"sweep.reply_inversion.prompts.{kind}", asked["prompts"][kind], role)
    if follow_up["targets"] and not sweep["generate"]["cells"]:
        raise ConfigError(
            "follow_up.targets", follow_up["targets"], "needs sweep.generate.cells to choose from; or set it to 0"
        )


def swept_places(study: Study) -> set[tuple[str, str]]:
    """(regime or model, anchor) of every swept checkpoint."""
    return {(name, study.anchor_name(name, step)) for _, name, step in study.swept()}
