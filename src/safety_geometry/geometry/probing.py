"""The candidates of a checkpoint's R, from its cached activations, and their scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from safety_geometry.artefacts.activations import CLASSES, Activations
from safety_geometry.artefacts.candidate_scores import RefusalScores
from safety_geometry.geometry.activations import evaluation_layers
from safety_geometry.geometry.candidate_scores import Scorer, as_candidates, candidate_directions
from safety_geometry.geometry.refusal_scores import (
    Progress,
    SelectionSettings,
    ask,
    describe_openings,
    refusal_openings,
    refusal_scores,
)
from safety_geometry.models.chat import Rendered
from safety_geometry.models.language_model import LanguageModel
from safety_geometry.models.memory import BatchSize


@dataclass(frozen=True, eq=False)
class Probe:
    """cache: activations of the model's fit prompts; layers: where candidates are read; settings: candidate_positions,
    coefficient, evaluation_share, removal, max_layer_fraction, selection (`SelectionSettings`)."""

    model: LanguageModel
    cache: Activations
    layers: Sequence[int]
    settings: Mapping

    def means(self, label: str) -> torch.Tensor:
        """[P, L+1, d] of a class."""
        return torch.from_numpy(np.array(self.cache.mean(label)))

    def scores(
        self,
        harmful: Sequence[Rendered],
        benign: Sequence[Rendered],
        texts: Sequence[str],
        refuses: Callable[[str], bool],
        answers: int | BatchSize,
        size: int | BatchSize,
        progress: Progress | None = None,
    ) -> RefusalScores | None:
        """Of the candidates on selection prompts, `texts` a few of their requests; answers, size: rows of a batch of
        answers and of scores. All prompts are asked; candidates are run on the first `validation` of each class, of the
        benign ones those that the checkpoint answers first. None where no candidate has a direction. Raises ValueError
        for openings that are none."""
        s, runner, share = self.settings, self.model.runner, self.model.chat.n_prefix
        highest = int(s["max_layer_fraction"] * runner.n_layers + 1e-9)
        settings = SelectionSettings.of(s["selection"], highest)
        positions, last = list(self.cache.positions), self.cache.index(-1)
        means = {label: self.means(label) for label in {*CLASSES, *self.cache.r_classes()}}
        first, second = self.cache.r_classes()
        evaluated = evaluation_layers(means["harmful"][last], means["benign"][last], s["evaluation_share"])
        delta = means[first] - means[second]
        candidates = as_candidates(candidate_directions(delta, positions, s["candidate_positions"], self.layers))
        if not candidates:
            return None
        bar = progress and progress(len(harmful) + len(benign), "answers to selection prompts")
        asked = ask(self.model, harmful, benign, refuses, settings.answer_tokens, answers, bar)
        used, configured = refusal_openings(self.model, asked, settings.openings, texts)
        centres = {
            (candidate.layer, candidate.position): means["benign"][positions.index(candidate.position), candidate.layer]
            for candidate in candidates
        }
        layers, answered = {candidate.layer for candidate in candidates}, ~asked.refused_benign
        scorer = Scorer(
            runner, asked.harmful, asked.benign, layers, evaluated, used, answered, s["coefficient"], size, share,
            s["removal"], centres,
        )  # fmt: skip
        openings = describe_openings(scorer, asked, configured)
        order = asked.benign_order
        return refusal_scores(scorer, candidates, self.fit, self.labels(), openings, settings, progress, order)

    def fit(self, position: int, layer: int) -> np.ndarray:
        return self.cache.fit(position, layer)[0]

    def labels(self) -> np.ndarray:
        """[N] bool: the class of the fit prompts that a direction points to."""
        n_harmful, n_benign = self.cache.n_fit
        refused = self.cache.refused()
        return np.arange(n_harmful + n_benign) < n_harmful if refused is None else refused
