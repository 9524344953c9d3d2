"""How the regimes are trained, and what they are attacked with meanwhile."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safety_geometry.settings.kinds import (
    Count,
    Natural,
    Positive,
    Settings,
    Share,
    Steps,
    Text,
    Weight,
    at_least,
    key,
    optional,
    refused,
)


class Probe(Settings):
    """A draft of the model screens the candidates of an attack."""

    layers: Count = optional("Blocks of the draft: the first of the model. Not with bfloat16, which has all.")
    share: Count = optional("Candidates for one of the probe set, which is scored by draft and model; left out: 16.")
    reduction: Annotated[float, Field(ge=1)] = optional(
        "The least reduction of the rest; of bfloat16: of all candidates. Left out: 8."
    )
    draft: Literal["head", "gradient", "bfloat16"] = optional(
        "What scores first: the logits of the first blocks, the gradient there, or the whole model in bfloat16 (faster"
        " where the processor multiplies that faster). Left out: head."
    )

    @model_validator(mode="after")
    def _layers_of_the_draft(self) -> "Probe":
        whole = self.draft == "bfloat16"
        if whole != (self.layers is None):
            raise refused(
                "layers", self.layers, f"the draft {self.draft or 'head'} {'takes no' if whole else 'needs'} layers"
            )
        return self


class GCG(Settings):
    """Greedy coordinate gradient: a suffix by single-token replacements."""

    steps: Natural = key("Steps of a search.")
    width: Count = key("Candidates of a step.")
    top_k: Count = key("Replacements considered at a position.")
    suffix_length: Count = key("Tokens of the suffix.")
    batch_size: Count = key("Rows of a forward pass, all cases together; halved on a GPU that runs out of memory.")
    stop_loss: Weight = optional("End a case when its objective is so low; left out: 0.")
    init: Text = optional(
        "The start: one token's text, repeated; or `random`: words drawn anew for every case, by seed. Left out: ' !'."
    )
    stop_exact: bool = optional("End a case when greedy decoding gives the target; left out: no.")
    merge: Natural = optional(
        "Also try the best substitutions of 2 … so many positions together in a step; left out: 0."
    )
    echo: Natural = optional(
        "So many candidates besides that repeat the target, or a run of it, within the suffix; left out: 0."
    )
    buffer: Natural = optional(
        "Suffixes kept beside the best, which take turns while nothing better is found; left out: 0."
    )
    mellowmax: Positive | None = optional(
        "α: the objective is the mellowmax of the target tokens' losses, not their mean. null, or left out: the mean."
    )
    probe: Probe | None = optional("Screen the candidates by a draft of the model. null, or left out: score all.")
    lsgm: Share | None = optional(
        "γ: what goes back through attention and MLP counts so much in the gradient. null, or left out: as it is."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = optional(
        "μ: candidates follow μ times the direction of the step before plus 1 − μ times the gradient; left out: 0."
    )

    @model_validator(mode="after")
    def _within_the_suffix(self) -> "GCG":
        if self.merge and self.merge > self.suffix_length:
            raise refused(
                "merge",
                self.merge,
                f"the suffix has {self.suffix_length} positions to substitute together (suffix_length)",
            )
        if self.width > (most := self.suffix_length * self.top_k):
            raise refused("width", self.width, f"suffix_length times top_k gives only {most} candidates")
        return self


class Lora(Settings):
    """The adapter that is trained."""

    rank: Count = key("Rank.")
    alpha: Positive = key("Scale: alpha over rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = key("Dropout before the adapter.")
    targets: Annotated[list[str], Field(min_length=1)] = key("Modules that get one, by the end of their name.")


class Monitor(Settings):
    """Refusal of the monitor prompts during training."""

    every: Count = key("At every so many steps.")
    at_saves: bool = key("At saves too.")
    prompts: Count = key("So many of each class.")
    max_new_tokens: Count = key("Longest answer.")
    batch_size: Count = key("Requests answered together.")


class Train(Settings):
    """The optimiser, the steps, and what is saved."""

    learning_rate: Positive = key("At the start of the cosine.")
    schedule_steps: Count = key(
        "Length of the cosine, whatever the number of steps trained; no save may lie beyond it."
    )
    rows: Count = key("Clean rows of an optimiser step.")
    micro_rows: Count = key("Rows of one forward pass.")
    micro_tokens: Count = optional(
        "Tokens of one forward pass, padding included, in place of micro_rows, so that passes of short rows fill a GPU"
        " as those of long ones; a longer row is alone. Left out: micro_rows. Changes rounding, and the dropout masks."
    )
    weight_decay: Weight = key("Of AdamW.")
    clip: Positive = key("Largest norm of the gradient.")
    clean_weight: Weight = key("Weight of the loss on clean rows.")
    away_weight: Weight = key("Weight of the loss away from the attack's target.")
    toward_weight: Weight = key("Weight of the loss toward the refusal.")
    share_prefix: bool = key("Run the common system prompt once per batch; exact.")
    max_length: at_least(8) = key(
        "Tokens of a clean row; what is beyond is cut, or left out (the log counts) where the answer begins there."
    )
    saves: Steps = key("Steps whose adapter is saved, probed and read.")
    segment_length: Count = key(
        "Steps of one training job: a killed one costs at most these. The last save should be a multiple of it: else"
        " the last segment is trained again when a later save is added."
    )
    keep: Literal["all", "anchors"] = key(
        "`anchors`: the adapters of other saves are deleted when all that reads them has run (they are most of the"
        " disk; to read one again, its segment is trained again)."
    )
    processes: Count = optional(
        "Processes of a training job, which share the rows of a step and the candidates of the attacks"
        " (docs/cluster.md); left out: 1. Changes rounding and dropout masks only: what is trained is not trained"
        " again."
    )
    sharding: Literal["none", "full"] = optional(
        "`full`: the processes share the frozen weights too (FSDP); left out: none."
    )
    monitor: Monitor = key("Refusal during training.")


class Pool(Settings):
    """Attacked behaviours of r2d2 regimes."""

    size: Count = key("Behaviours at a time.")
    per_step: Count = key("Behaviours attacked, and trained on, at a step.")
    reset_every: Count = key("Steps between resets.")
    reset_share: Share = key("Share of the pool that a reset replaces, from the rest of role train_pool.")
    away_threshold: Annotated[float, Field(le=0)] = key("Target tokens with a log probability below it are left alone.")
    refusal: Text = key("The answer that is trained.")
    plain_toward: bool = key(
        "Train the refusal on the bare request too (a small model else refuses the suffix, not the request)."
    )
    gcg: GCG = key("The attack.")


class Regime(Settings):
    """A way of training, which gives a trajectory of checkpoints."""

    kind: Literal["sft", "r2d2"] = key("`sft`: clean rows only. `r2d2`: the same clean rows plus the pool.")
    reference: Count = key(
        "Step of the reference anchor. The paper's rule is the earliest checkpoint that refuses stably (any of them"
        " for sft)."
    )
    anchors: Steps = optional("Instead of the common ones.")
    saves: Steps = optional("Instead of train.saves.")
    refresh: bool = optional("Of r2d2: whether the suffixes go on being attacked; `false` freezes them at their start.")
    away: bool = optional("Of r2d2: whether there is a loss away from the attack's target.")
