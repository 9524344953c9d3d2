"""A small judge trained on human labels: TF-IDF of the response's words, a few features, sentence embeddings of request
and response; logistic regression.

Everything is deterministic (liblinear, sorted vocabulary), embeddings up to the rounding of the machine. The artefact
is plain JSON: vocabulary, idf, coefficients.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from .embeddings import Embed, pair_features
from .features import clip, feature_matrix

FORMAT = "safety-geometry judge 2"
TOKEN = r"(?u)\b\w[\w']*\b"


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of one trained judge.

    `words`: use TF-IDF of word 1–2-grams; `features`: names from `features.NAMES`, each times `feature_scale`;
    `embeddings`: blocks of `embeddings.BLOCKS`, which need an embedder in training and in use; `inverse_penalty`: C of
    the logistic regression; `clip_words`: only this many first words of a response are read, in training and in use
    (None: all), so that long labelled answers resemble short completions.
    """

    words: bool = True
    features: tuple[str, ...] = ("refuses", "refuses_fully")
    feature_scale: float = 3.0
    inverse_penalty: float = 1.0
    opening_words: int = 20
    clip_words: int | None = None
    min_df: int = 2
    max_terms: int = 5000
    embeddings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedModel:
    """A fitted judge: p(label) = sigmoid(x · coefficients + intercept), x = [TF-IDF row, scaled features, embeddings].

    `embedder`: digest of the model whose embeddings it was trained on, empty without them.
    """

    settings: Settings
    vocabulary: tuple[str, ...]
    idf: NDArray[np.float64]  # (terms,)
    coefficients: NDArray[np.float64]  # (terms + features + embeddings,)
    intercept: float
    embedder: str = ""

    def probability(
        self, requests: Sequence[str], responses: Sequence[str], embed: Embed | None = None
    ) -> NDArray[np.float64]:
        """p(label) per response, shape (n,). Raises ValueError when `embed` is not what the judge was trained with."""
        if (asked := _digest(self.settings, embed)) != self.embedder:
            raise ValueError(
                f"the judge was trained on embeddings of {self.embedder[:12] or 'none'}, not of {asked[:12] or 'none'}:"
                " train it anew"
            )
        if not len(responses):
            return np.zeros(0)
        vectorizer = None
        if self.settings.words:
            vectorizer = _vectorizer(self.settings, list(self.vocabulary))
            vectorizer.idf_ = self.idf
        x = _design(self.settings, vectorizer, requests, responses, embed)
        return 1 / (1 + np.exp(-(x @ self.coefficients + self.intercept)))

    def to_dict(self) -> dict:
        return {
            "format": FORMAT,
            "settings": asdict(self.settings),
            "vocabulary": list(self.vocabulary),
            "idf": self.idf.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
            "embedder": self.embedder,
        }

    @classmethod
    def from_dict(cls, value: dict) -> "TrainedModel":
        """Raises ValueError when `value` is no such artefact or its parts do not fit together."""
        if value.get("format") != FORMAT:
            raise ValueError(f"not a trained judge: format is {value.get('format')!r}, expected {FORMAT!r}")
        lists = {name: tuple(value["settings"][name]) for name in ("features", "embeddings")}
        settings = Settings(**{**value["settings"], **lists})
        model = cls(
            settings,
            tuple(value["vocabulary"]),
            np.array(value["idf"], dtype=np.float64),
            np.array(value["coefficients"], dtype=np.float64),
            float(value["intercept"]),
            value["embedder"],
        )
        terms, blocks = len(model.vocabulary), len(settings.embeddings)
        embedded = len(model.coefficients) - terms - len(settings.features)
        fits = embedded > 0 and embedded % blocks == 0 if blocks else embedded == 0
        if len(model.idf) != terms or not fits:
            raise ValueError("trained judge: vocabulary, idf and coefficients have different lengths")
        if bool(model.embedder) != bool(blocks):
            raise ValueError("trained judge: embeddings and the digest of their model do not go together")
        return model


def fit(
    requests: Sequence[str], responses: Sequence[str], labels: ArrayLike, settings: Settings, embed: Embed | None = None
) -> TrainedModel:
    """Train on n labelled responses; `labels` (n,) of bool; `embed` where the settings have embeddings. Raises
    ValueError when there is one class only."""
    return _fit(requests, responses, labels, settings, embed)[0]


def _fit(
    requests, responses, labels, settings: Settings, embed: Embed | None = None
) -> tuple[TrainedModel, LogisticRegression, sp.csr_matrix]:
    y = np.asarray(labels, dtype=bool)
    if y.all() or not y.any():
        raise ValueError(f"a judge needs both labels; got {int(y.sum())} positive of {len(y)}")
    vectorizer = None
    if settings.words:
        vectorizer = _vectorizer(settings).fit([clip(text, settings.clip_words) for text in responses])
    x = _design(settings, vectorizer, requests, responses, embed)
    # liblinear runs on one thread in its own arithmetic: the same bytes whatever the number of cores.
    regression = LogisticRegression(C=settings.inverse_penalty, solver="liblinear", max_iter=1000, tol=1e-6).fit(x, y)
    model = TrainedModel(
        settings,
        tuple(vectorizer.get_feature_names_out()) if vectorizer is not None else (),
        vectorizer.idf_.copy() if vectorizer is not None else np.zeros(0),
        regression.coef_[0].copy(),
        float(regression.intercept_[0]),
        _digest(settings, embed),
    )
    return model, regression, x


def choose(
    requests: Sequence[str], responses: Sequence[str], labels: ArrayLike, groups: ArrayLike, grid: Sequence[Settings],
    n_folds: int = 3, embed: Embed | None = None,
) -> Settings:  # fmt: skip
    """The settings of `grid` with the smallest grouped cross-validated log loss; the first one among equals."""
    if len(grid) == 1:
        return grid[0]
    y = np.asarray(labels, dtype=bool)
    losses = []
    for settings in grid:
        p = np.clip(_out_of_fold(requests, responses, y, groups, [settings], n_folds, embed), 1e-6, 1 - 1e-6)
        losses.append(float(np.mean(-np.log(np.where(y, p, 1 - p)))))
    return grid[int(np.argmin(losses))]


def cross_validate(
    requests: Sequence[str], responses: Sequence[str], labels: ArrayLike, groups: ArrayLike, grid: Sequence[Settings],
    n_folds: int = 10, embed: Embed | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Out-of-fold p(label), shape (n,). Rows of one group are never split; with several settings in `grid`, each fold
    chooses among them on its own training part (nested), so that the choice is in the error."""
    return _out_of_fold(requests, responses, np.asarray(labels, dtype=bool), groups, grid, n_folds, embed)


def leave_out(
    requests: Sequence[str], responses: Sequence[str], labels: ArrayLike, groups: ArrayLike, sets: ArrayLike,
    settings: Settings, embed: Embed | None = None, asked: ArrayLike | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """p(label) of each row by a judge trained on the rows of other `sets` (n,), without those that share a group with
    the set left out, shape (n,); NaN where these have one label only. `asked` (n,): rows of which it is wanted, all
    when None; the others are learnt from, and NaN."""
    requests, responses = np.asarray(requests, object), np.asarray(responses, object)
    y, groups, sets = np.asarray(labels, dtype=bool), np.asarray(groups), np.asarray(sets)
    asked = np.full(len(y), True) if asked is None else np.asarray(asked, dtype=bool)
    probability = np.full(len(y), np.nan)
    for name in np.unique(sets[asked]):
        test = asked & (sets == name)
        train = (sets != name) & ~np.isin(groups, groups[test])
        if y[train].any() and not y[train].all():
            model = fit(requests[train], responses[train], y[train], settings, embed)
            probability[test] = model.probability(requests[test], responses[test], embed)
    return probability


def _out_of_fold(requests, responses, y, groups, grid, n_folds, embed=None) -> NDArray[np.float64]:
    requests, responses = np.asarray(requests, object), np.asarray(responses, object)
    groups = np.asarray(groups)
    n_folds = min(n_folds, len(np.unique(groups)))
    if n_folds < 2:
        raise ValueError("cross-validation needs at least two groups of requests")
    probability = np.full(len(y), np.nan)
    for train, test in GroupKFold(n_folds).split(requests, y, groups):
        if y[train].all() or not y[train].any():
            probability[test] = y[train].mean()
            continue
        settings = choose(requests[train], responses[train], y[train], groups[train], grid, embed=embed)
        model = fit(requests[train], responses[train], y[train], settings, embed)
        probability[test] = model.probability(requests[test], responses[test], embed)
    return probability


def grid_of(base: Settings, **choices: Sequence) -> list[Settings]:
    """All combinations of the listed values over `base`, in order."""
    settings = [base]
    for name, values in choices.items():
        settings = [replace(s, **{name: tuple(v) if isinstance(v, list) else v}) for s in settings for v in values]
    return settings


class TrainedJudge:
    """A trained model as a judge: label True/False at `threshold`, score = p(label). `embed`: the embedder of a model
    with embeddings. Raises ValueError when it needs another."""

    def __init__(self, model: TrainedModel, name: str, threshold: float = 0.5, embed: Embed | None = None):
        self.model, self.name, self.threshold = model, name, threshold
        self.embed = embed if model.settings.embeddings else None
        model.probability([], [], self.embed)  # says so now if it is another embedder's

    def __call__(self, requests: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
        """One row per response. Columns `label` (bool), `score` in [0, 1]."""
        score = self.model.probability(requests, responses, self.embed)
        return pd.DataFrame({"label": score >= self.threshold, "score": score})


def _vectorizer(settings: Settings, vocabulary: list[str] | None = None) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=_terms, sublinear_tf=True, dtype=np.float64, vocabulary=vocabulary,
        min_df=1 if vocabulary else settings.min_df, max_features=None if vocabulary else settings.max_terms,
    )  # fmt: skip


def _design(settings: Settings, vectorizer: TfidfVectorizer | None, requests, responses, embed) -> sp.csr_matrix:
    clipped = [clip(text, settings.clip_words) for text in responses]
    blocks = [] if vectorizer is None else [vectorizer.transform(clipped)]
    if settings.features:
        rows = [
            _features(q, a, settings.features, settings.opening_words) for q, a in zip(requests, clipped, strict=True)
        ]
        blocks.append(sp.csr_matrix(np.vstack(rows) * settings.feature_scale))
    if settings.embeddings:
        blocks.append(sp.csr_matrix(pair_features(embed, requests, clipped, settings.embeddings)))
    if not blocks:
        raise ValueError("a trained judge needs words, features or embeddings")
    return sp.hstack(blocks, format="csr")


def _digest(settings: Settings, embed: Embed | None) -> str:
    """Of the weights that make the embeddings of these settings; empty without any."""
    if not settings.embeddings:
        return ""
    if embed is None:
        raise ValueError("a judge with embeddings needs their model (judges.embeddings)")
    return embed.digest


_split = TfidfVectorizer(ngram_range=(1, 2), token_pattern=TOKEN).build_analyzer()


@lru_cache(maxsize=20_000)
def _terms(response: str) -> list[str]:
    """Words and pairs of neighbours. Cached, as `_features` is."""
    return _split(response)


@lru_cache(maxsize=20_000)
def _features(request: str, response: str, names: tuple[str, ...], opening_words: int) -> NDArray[np.float64]:
    """Cached: cross-validation asks for the same rows once per fold and setting."""
    return feature_matrix([request], [response], names, opening_words)[0]
