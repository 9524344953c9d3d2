"""Rulers: how well plain properties of the prompts separate the two classes that a carrier is said to separate.

A direction that tells harmful from benign prompts apart no better than their length or their words do shows nothing
about the model. A ruler sees prompts only, is fitted on the fit prompts and scored on the select prompts, as a carrier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB

from safety_geometry.prompts.splits import content_words


@dataclass(frozen=True)
class Classes:
    """Requests of both classes."""

    harmful: Sequence[str]
    benign: Sequence[str]

    @property
    def texts(self) -> list[str]:
        return [*self.harmful, *self.benign]

    @property
    def labels(self) -> np.ndarray:
        """1 for a harmful request, 0 for a benign one, in the order of `texts`."""
        return np.repeat([1, 0], [len(self.harmful), len(self.benign)])

    def auroc(self, scores: Sequence[float]) -> float:
        """Of scores in the order of `texts`; ties count ½."""
        return float(roc_auc_score(self.labels, np.asarray(scores, np.float64)))


def length_scores(fit: Classes, select: Classes, tokens: Callable[[str], int]) -> np.ndarray:
    """Of each request of `select` its number of tokens, turned where `fit` says that harmful requests are shorter."""
    longer = fit.auroc([tokens(text) for text in fit.texts]) >= 0.5
    return np.array([tokens(text) if longer else -tokens(text) for text in select.texts])


def words_scores(fit: Classes, select: Classes) -> np.ndarray:
    """Of each request of `select` the log-odds of naive Bayes over content words, each counted once a prompt, learnt on
    `fit`.

    Multinomial with one added to each count and the classes weighing the same; words that `fit` lacks count nothing.
    """
    bag = CountVectorizer(analyzer=content_words, binary=True)
    model = MultinomialNB(alpha=1.0, class_prior=[0.5, 0.5]).fit(bag.fit_transform(fit.texts), fit.labels)
    benign, harmful = model.predict_log_proba(bag.transform(select.texts)).T
    return harmful - benign
