"""Activations, the two carriers, their coupling, and statistics."""

from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from safety_geometry.settings.kinds import (
    Count,
    FromTheEnd,
    Layers,
    Natural,
    Part,
    Positive,
    Settings,
    Weight,
    at_least,
    each_once,
    either,
    key,
)


def _has_the_last(positions: list[int]) -> list[int]:
    if -1 not in positions:
        raise PydanticCustomError("contains", "has to contain -1")
    return positions


class Activations(Settings):
    """The residual stream that is kept of each checkpoint."""

    positions: Annotated[each_once(FromTheEnd, 1), AfterValidator(_has_the_last)] = key(
        "Tokens from the end of the prompt; the last instruction token (t_inst) is added."
    )
    dtype: Literal["float16", "bfloat16", "float32"] = key("Of the activations kept per prompt; means are float32.")
    batch_size: Count = key("Prompts read together.")
    keep: Literal["all", "anchors"] = key(
        "`anchors`: other saves keep their means only, a twelfth, and have no intervals."
    )


class Harmfulness(Settings):
    """The harmfulness carrier H."""

    position: either(Literal["t_inst"], FromTheEnd) = key("The token that it is read at.")
    score: Literal["dprime", "auroc", "gap"] = key("What picks its layer.")


class MinGain(Settings):
    """The least gain on prompts that did not choose it which makes a site R, by selector."""

    effect: Weight = key("In refusal log-odds.")
    cosmic: Weight = key("Of the way from doing nothing (0) to the other class's mean (1).")


class Refusal(Settings):
    """The refusal carrier R: its candidates, and what makes one of them R."""

    contrast: Literal["prompts", "behaviour"] = key(
        "`prompts`: harmful minus benign. `behaviour`: fit prompts that the checkpoint refuses minus the others;"
        " sweeps need `prompts`."
    )
    selector: Literal["effect", "cosmic"] = key(
        "Whose choice is R, by what it does to the refusal log-odds or to the class means; both are reported."
    )
    answer_tokens: Count = key("Length of the answers that show what a checkpoint refuses.")
    class_min: at_least(4) = key("With `behaviour`: a checkpoint with fewer prompts on either side has no R.")
    layers: either(Literal["all"], each_once(Natural, 1)) = key(
        "Candidate layers; `all`: every layer below max_layer_fraction."
    )
    validation: at_least(3) = key(
        "Prompts of each class that finalists are run on, the answered benign ones first; all of roles select_* are"
        " asked."
    )
    screen: Count = key("The first of these, that every candidate is run on; at least two fewer.")
    finalists: Count = key("Candidates that are run on all of them.")
    null_sets: Natural = key(
        "Sets of label-shuffled directions that the same choice is made among, for its 95 % point."
    )
    null_sites: Count = key("Directions of a set, at as many of the finalists' sites.")
    min_gain: MinGain = key("The least gain that makes a site R.")
    require_gain: bool = key("`false`: the best candidate is R whatever the verdict, which stands beside it.")
    removal: Literal["layer", "affine", "linear"] = key(
        "What removing is in the scores: a projection at the candidate's layer, that and the benign mean put back, or"
        " one at every layer."
    )
    coefficient: Positive = key("Times the raw direction, added on benign prompts.")
    evaluation_share: Part = key("Share of layers whose outputs are compared.")
    beta_kl: Weight = key("Weight of the KL in `cosmic`.")
    kl_max: Weight = key("Largest KL of a candidate on benign prompts that the checkpoint answers.")
    max_layer_fraction: Part = key("Share of the depth beyond which no candidate lies.")
    batch_size: Count = key("Prompts read together.")


class Coupling(Settings):
    """The coupling of the two."""

    subspace_k: Count = key("Directions of the subspaces.")
    tau: Positive = key("Layers over which C_layer falls to 1/e.")
    fixed_layers: Layers = key("Layers at which it is reported besides.")


class Statistics(Settings):
    """Intervals and nulls."""

    seed: Natural = key("Of the draws.")
    bootstrap: at_least(20) = key("Resamples behind an interval.")
    shuffles: at_least(20) = key("Label-shuffled directions behind a null.")
    splits: at_least(2) = key("Halvings behind a noise ceiling.")
    block_lengths: each_once(Count, 1) = key("Lengths of the moving blocks along a trajectory.")
