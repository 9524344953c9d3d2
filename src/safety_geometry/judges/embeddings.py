"""Sentence embeddings of requests and answers, and what a trained judge reads off a pair of them.

A text is the mean of the last hidden states of its tokens (padding left out, at most `MAX_TOKENS` of them), divided by
its norm: the model's own pooling (all-MiniLM-L6-v2: Reimers & Gurevych 2019, arXiv 1908.10084). torch and transformers
are imported when the model is loaded, not before: jobs without embeddings run without them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from safety_geometry.artefacts.errors import ArtefactError

MAX_TOKENS = 256  # what the model was trained on; longer texts are cut
BATCH = 32  # texts of a pass
WEIGHTS = "model.safetensors"
FILES = (WEIGHTS, "config.json", "tokenizer.json")
BLOCKS = ("request", "answer", "difference", "product")


class Embed(Protocol):
    """Texts → unit vectors, shape (n, d); `digest` says of what model."""

    digest: str

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]: ...


class SentenceEmbedder:
    """The model in a folder as a function: texts → unit vectors, shape (n, d). Texts are embedded once.

    `digest` is the SHA-256 of the weights: a judge that was trained on these embeddings asks for the same. Raises
    ArtefactError where the folder holds no such model.
    """

    def __init__(self, folder: Path):
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise ArtefactError(
                f"{folder}: a sentence-embedding model needs {', '.join(missing)}; correct judges.embeddings.folder, or"
                " the members of its source"
            )
        self.folder = folder
        with (folder / WEIGHTS).open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._model, self._tokenizer = None, None
        self._known: dict[str, NDArray[np.float64]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Unit rows, shape (n, d), in the order of the texts."""
        new = sorted(set(texts) - self._known.keys(), key=lambda text: (len(text), text))  # alike ones in a pass
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self._known |= zip(batch, self._embed(batch), strict=True)
        return np.array([self._known[text] for text in texts])

    def _embed(self, texts: list[str]) -> NDArray[np.float64]:
        import torch

        if self._model is None:
            self._load()
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state  # (n, tokens, d)
        there = tokens["attention_mask"][..., None].to(states.dtype)
        means = (states * there).sum(dim=1) / there.sum(dim=1)
        return torch.nn.functional.normalize(means, dim=1).double().numpy()

    def _load(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(self.folder, local_files_only=True, dtype=torch.float32).eval()
        except Exception as error:  # whatever a broken file makes these libraries raise
            raise ArtefactError(
                f"{self.folder}: no sentence-embedding model that transformers can load ({type(error).__name__}:"
                f" {str(error).splitlines()[0] if str(error) else ''}); fetch its source again"
            ) from error


def pair_features(embed: Embed, requests: Sequence[str], answers: Sequence[str], blocks: Sequence[str]) -> NDArray:
    """What `blocks` name of the unit vectors q of n requests and a of their answers, side by side, shape (n, k·d):
    `request` q, `answer` a, `difference` |q − a|, `product` √d·q∘a (so that it is as long as the others).

    Raises KeyError for an unknown block.
    """
    q, a = embed(list(requests)), embed(list(answers))
    made = {
        "request": lambda: q,
        "answer": lambda: a,
        "difference": lambda: np.abs(q - a),
        "product": lambda: np.sqrt(q.shape[1]) * q * a,
    }
    return np.hstack([made[block]() for block in blocks])
