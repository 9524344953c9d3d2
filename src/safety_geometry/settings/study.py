"""A whole study. Which settings of different sections go together is checked in workflow/pipeline/combinations."""

from pydantic import model_validator

from safety_geometry.settings.behaviour import Attacks, Completions, Judges, Transfer
from safety_geometry.settings.causal import Aligned, FollowUp, Quadrants, Sweep
from safety_geometry.settings.geometry import Activations, Coupling, Harmfulness, Refusal, Statistics
from safety_geometry.settings.kinds import (
    Name,
    Natural,
    RegimeName,
    Settings,
    Steps,
    each_once,
    either,
    key,
    lacking,
    optional,
    refused,
)
from safety_geometry.settings.prompts import TRAINING_ROLES, CleanRows, Prompts
from safety_geometry.settings.sources import Model, Sources, Trajectories
from safety_geometry.settings.step_patterns import numbered, source_name
from safety_geometry.settings.training import Lora, Pool, Regime, Train

TRAINING = ("clean_rows", "lora", "train", "pool", "anchors")  # what only training reads


class StudySettings(Settings):
    """The configuration of a study."""

    study: Name = key("Its name: results go to results/<study>/.")
    seeds: each_once(Natural, 1) = key("One full study each; a column of every table.")
    light_seeds: either(Natural, each_once(Natural)) = key(
        "Further seeds, or how many (those behind the last of `seeds`), that only train and answer direct requests,"
        " look-alikes and utility prompts: rows of `behaviour`, `contrasts` and `training`."
    )
    sources: Sources = key("What is fetched, by name.")
    model: Model = key("The model that the regimes are trained from.")
    prompts: Prompts = key("Sets of prompts and their roles.")
    clean_rows: CleanRows = optional("Rows of ordinary training. Needed where something is trained.")
    lora: Lora = optional("The adapter that is trained. Needed where something is trained.")
    train: Train = optional("The optimiser, the steps, and what is saved. Needed where something is trained.")
    pool: Pool = optional("Attacked behaviours of r2d2 regimes. Needed where something is trained.")
    regimes: dict[RegimeName, Regime] = key("Ways of training, by name; `{}`: nothing is trained.")
    anchors: Steps = optional(
        "Steps beside each regime's reference that are read in full; all of them have to be saved. Needed where"
        " something is trained."
    )
    checkpoints: Trajectories = optional("Checkpoints that were not trained here, by name (docs/howto.md).")
    activations: Activations = key("What is kept of the residual stream.")
    harmfulness: Harmfulness = key("The carrier H.")
    refusal: Refusal = key("The carrier R.")
    coupling: Coupling = key("Their coupling.")
    statistics: Statistics = key("Intervals and nulls.")
    attacks: Attacks = key("The fixed-source attacks.")
    transfer: Transfer = key("Attacks from checkpoint to checkpoint.")
    completions: Completions = key("Answers to the suites.")
    judges: Judges = key("Who says what an answer is.")
    sweep: Sweep = key("The causal sweep.")
    follow_up: FollowUp = key("What follows the sweep.")
    aligned: Aligned = key("Models that refuse, to compare with.")
    quadrants: Quadrants = key("Prompts by harm and refusal.")

    @model_validator(mode="after")
    def _what_training_reads(self) -> "StudySettings":
        if self.regimes:
            lacks = [name for name in TRAINING if getattr(self, name) is None]
            lacks += [f"prompts.roles.{name}" for name in TRAINING_ROLES if name not in self.prompts.roles]
            if lacks:
                raise lacking(lacks)
        return self

    @model_validator(mode="after")
    def _sources_of_steps(self) -> "StudySettings":
        for name, trajectory in (self.checkpoints or {}).items():
            steps = numbered(trajectory.steps) if trajectory.source is not None else ()
            for made in (source_name(name, step) for step in steps):
                if made in self.sources:
                    fix = f"a step of checkpoints.{name}, whose source is a pattern, is called so; rename this source"
                    raise refused("sources", made, fix)
        return self
