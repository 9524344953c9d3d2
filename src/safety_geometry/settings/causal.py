"""Interventions on the carriers: the sweep, what follows it, and models to compare with."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safety_geometry.settings.behaviour import Anchors
from safety_geometry.settings.kinds import (
    Count,
    FileName,
    FromTheEnd,
    Name,
    Natural,
    Positive,
    RegimeName,
    Settings,
    Share,
    Step,
    Text,
    at_least,
    each_once,
    either,
    key,
    optional,
    refused,
)
from safety_geometry.settings.sources import Brought

Mode = Literal["h_only", "r_only", "h_plus_r", "h_perp_r", "r_perp_h"]
Family = Literal["ablate", "steer"]
Scope = Literal["layer", "all_layers"]
Strengths = each_once(float)
Numbers = dict[str, Count]


class ControlCounts(Settings):
    """So many controls of each kind; none of a kind that is left out."""

    random: Natural = optional("Random unit vectors.")
    covariance: Natural = optional("Random vectors of the activations' covariance.")
    shuffled: Natural = optional("Label-shuffled differences of means.")
    wrong_layer: Natural = optional("The carrier of a layer at least a quarter of the depth away.")
    wrong_position: Natural = optional("The carrier of another position.")
    norm_matched: Natural = optional("Ablations: random subspaces that hold the target's energy, at no larger λ.")
    selected: Natural = optional("Winners of the null sets of R's selection, in R's place; as many as there are.")


class Cell(Settings):
    """A cell of the sweep."""

    family: Family = key("Remove, or add.")
    mode: Mode = key("What is removed or added.")
    strength: float = key("λ.", alias="lambda")
    scope: Scope = optional("Where; left out: the carrier's own layer.")
    rank: Count = optional("Directions of the subspace; left out: 1.")


class PrimaryCell(Cell):
    """Cells with a permutation p: of each mode and strength."""

    mode: either(Mode, each_once(Mode, 1)) = key("What is removed or added, or several.")
    strength: either(float, int, each_once(float, 1)) = key("λ, or several.", alias="lambda")
    regime: RegimeName = key("The regime, or the model.")
    anchor: either(Literal["reference", "model"], Step) = key("Its anchor.")


class AnsweringCell(Cell):
    """A cell that answers."""

    controls: bool = optional("Whether controls answer beside it; left out: they do.")


class ReadoutPrompts(Settings):
    """Prompts of the cheap readout: the first of roles direct and utility."""

    harmful: at_least(2) = key("Of role direct.")
    benign: at_least(2) = key("Of role utility.")


class Generate(Settings):
    """Cells that also answer: attack success, refusals, benign score, degenerate answers."""

    cells: list[AnsweringCell] = key("Which.")
    controls: ControlCounts = key("How many of each kind answer beside a target; an interval over controls takes five.")
    suites: Numbers = key("Suite: how many of its first prompts.")
    max_new_tokens: Count = key("Longest answer.")
    batch_size: Count = key("Requests answered together.")


class ScanControls(Settings):
    """So many controls of each kind at each layer; none of a kind that is left out."""

    random: Natural = optional("Random unit vectors.")
    covariance: Natural = optional("Random vectors of the activations' covariance.")
    shuffled: Natural = optional("Label-shuffled differences of means.")


class ReplyInversion(Settings):
    """Whether a request could cause harm, asked of the model with its carriers removed and added."""

    prompts: ReadoutPrompts = key("The first of roles direct and utility.")
    least_accuracy: Share = key(
        "Share of right answers without edits, of both classes alike, below which a model counts as at chance."
    )
    batch_size: Count = key("Questions read together.")


class LayerScan(Settings):
    """The carriers read at, and acting at, each of these layers."""

    layers: each_once(Natural, 1) = key("Layers.")
    modes: each_once(Mode, 1) = key("Modes.")
    family: Family = key("Remove, or add.")
    strength: either(float, int, each_once(float, 1)) = key("λ, or several.", alias="lambda")
    controls: ScanControls = key("Controls at each layer.")
    max_kl: Positive = key("Nats on benign prompts (next token) that the recommended layer and λ may cost.")


class BroughtDirection(Settings):
    """A direction in a file (docs/howto.md): safetensors, repeng's GGUF, or steering-vectors'."""

    file: FileName = key("The file, of this machine: .safetensors, .gguf, .pt or .pth.")
    name: Text = optional("Which of its directions, where it has several; layerN where the file knows no names.")
    position: either(FromTheEnd, Literal["t_inst"]) = optional(
        "Position whose activations its controls are made of; left out: what the file says, else -1."
    )
    primary: bool = optional("Whether ablate λ = 1 and steer λ = ±1 have a permutation p; left out: no.")


class Sweep(Settings):
    __doc__ = (
        "Carriers are removed (ablate) or added (steer) at anchors, beside matched controls."
        " docs/protocol.md defines all of it."
    )

    checkpoints: Anchors = key("Regime: anchors that are swept.")
    modes: each_once(Mode, 1) = key("What is removed or added: H, R, both, and each without the other.")
    ablate: Strengths = key("Strengths λ of a − λ(uᵀa)u; the paper's grid is −4 … 4.")
    steer: Strengths = key("Strengths λ of a + λ·scale·u.")
    steer_scale: Literal["unit", "activation_norm", "difference_norm"] = key(
        "The scale: 1, the activation's norm, or the carrier's own mean difference."
    )
    scopes: each_once(Scope, 1) = key("The carrier's own layer, or all layers.")
    ranks: each_once(Count, 1) = key(
        "1: the carrier; k: the top-k subspace (ablate only, at most coupling.subspace_k)."
    )
    controls: ControlCounts = key("Controls beside each target.")
    max_matched_lambda: Annotated[float, Field(ge=1)] = key(
        "Largest |λ′| at which an ablation's control removes as much as its target; capped controls are left out."
    )
    primary: list[PrimaryCell] = key("Cells with a permutation p on the log-odds; Holm over those of a regime.")
    permutations: Count = key(
        "Control directions behind a p, a third of each shared kind: at least twenty times a regime's primary cells."
    )
    openings: each_once(Text, 1) = key("An answer that opens like this refuses; the first token of each is read.")
    prompts: ReadoutPrompts = key("Of the cheap readout.")
    batch_size: Count = key("Prompts read together.")
    generate: Generate = key("Cells that also answer.")
    directions: dict[RegimeName, BroughtDirection] | None = optional(
        "Directions from files, swept as R is at all checkpoints above, for the table directions; null or left out:"
        " none."
    )
    layer_scan: LayerScan | None = key("The scan of layers; or null.")
    reply_inversion: ReplyInversion | None = optional("The question of harm; null or left out: it is not asked.")


class FollowUp(Settings):
    """The cells with the largest Δ_control of ASR, chosen on half of the direct prompts, scored on the other."""

    targets: Natural = key("The paper's 8; 0: no follow-up.")
    controls: Natural = key("Of each target.")
    suites: Numbers = key("Suite: how many of its first prompts.")
    max_new_tokens: Count = key("Longest answer.")
    batch_size: Count = key("Requests answered together.")


class Aligned(Settings):
    """Models that refuse, for the table aligned_anchors."""

    anchors: Anchors = key("Regime: anchors of this study; they have to be in sweep.checkpoints.")
    models: dict[RegimeName, Brought] = key("Others, by a name of yours.")


class Quadrants(Settings):
    """Prompts by whether they are harmful and whether they are refused."""

    per_quadrant: Count = key("At most so many of each.")
    harmful: each_once(Name) = key("Suites whose prompts are harmful.")
    benign: each_once(Name) = key("Suites whose prompts are benign.")

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "Quadrants":
        if both := sorted({*self.harmful} & {*self.benign}):
            raise refused("benign", both[0], "quadrants.harmful has this suite; a suite is one or the other")
        return self
