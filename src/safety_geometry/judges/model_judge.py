"""Judges that are models, by what is said of them and not by their names: three kinds behind one interface.

`classifier`: a sequence classifier of transformers, whose labels have values. `next_word`: a causal model that is asked
for one word (HarmBench's classifier: yes or no; StrongREJECT's evaluator: a rating), so that a judgement is one forward
pass. `guard`: a causal model that writes its verdict (Qwen3Guard-Gen, Llama Guard), which is read line by line.

A judge was trained on one exact wording. It comes as a template with the fields behavior, generation and context, or is
the chat template that a guard's tokenizer brings; none is repeated here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from safety_geometry.judges.passes import class_logits, clip_tokens, cut_left, last_logits, token_id, written
from safety_geometry.judges.thinking import answer_of
from safety_geometry.models.memory import BatchSize

KINDS = ("classifier", "next_word", "guard")
FIELDS = {"request": ("behavior",), "answer": ("generation",), "both": ("behavior", "generation")}
PARTS = {"behavior": "request", "generation": "answer"}


@dataclass(frozen=True)
class Verdict:
    """How a judge's words become a number.

    scores: its label, its word, or what stands on its line -> 0 (no) to 1 (yes); threshold: the label is true above
    it; line: what stands before the colon (None: the first line is the verdict)."""

    scores: Mapping[str, float]
    threshold: float = 0.5
    line: str | None = None

    def read(self, text: str) -> float | None:
        """The value in what a guard wrote, capitals and a full stop aside; None where it cannot be read."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if self.line is not None:
            start = f"{self.line}:".casefold()
            lines = [line[len(start) :].strip() for line in lines if line.casefold().startswith(start)]
        said = lines[0].rstrip(".").casefold() if lines else None
        return next((value for word, value in self.scores.items() if word.casefold() == said), None)

    @property
    def form(self) -> str:
        """What a line has to be, for a message."""
        words = ", ".join(self.scores)
        return f"a line '{self.line}:' with one of {words}" if self.line else f"a first line with one of {words}"


class ModelJudge:
    """A judge that is a model; callable as `judging.Judge` is, with the first of its verdicts."""

    def __init__(
        self, name: str, kind: str, model, tokenizer, says: Mapping[str, Verdict], *, reads: str = "both",
        template: str | None = None, contextual_template: str | None = None, contexts: Mapping[str, str] | None = None,
        clip: int | None = None, max_length: int | None = None, max_new_tokens: int = 32, unread: str = "fail",
        batch_size: int | BatchSize = 8,
    ):  # fmt: skip
        """says: verdicts by what they are of, `refusal` or `harm`. reads: request, answer or both. template: the
        wording, with the fields of what it reads; without one a classifier gets the plain text (both: as a pair), a
        guard its tokenizer's chat template. contexts: request -> the context string of a contextual behaviour, for
        `contextual_template`. clip: tokens kept of an answer. max_length: tokens of a prompt, cut on the left (of a
        classifier on the right, of a chat template not at all). unread: `fail`, or `leave_out` of verdicts that cannot
        be read. Raises ValueError for what does not go together."""
        if kind not in KINDS:
            raise ValueError(f"{name}: kind {kind!r} is not one of {', '.join(KINDS)}")
        for text in filter(None, (template, contextual_template)):
            check_fields(name, text, reads, context=text is contextual_template)
        if template is None and (kind == "next_word" or (kind == "guard" and reads == "answer")):
            raise ValueError(f"{name}: kind {kind} that reads {reads} needs a template")
        self.name, self.kind, self.model, self.tokenizer, self.says = name, kind, model, tokenizer, dict(says)
        self.reads, self.template, self.contextual, self.contexts = reads, template, contextual_template, contexts or {}
        self.clip, self.max_length, self.batch_size = clip, max_length, batch_size
        self.max_new_tokens, self.unread = max_new_tokens, unread
        self.needs_topic = reads == "answer"  # one that reads the request decides that itself
        self._ask = {"classifier": self._labels, "next_word": self._words, "guard": self._lines}[kind]

    def __call__(self, requests: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
        """Columns `label` (bool) and `score` in [0, 1], of its first verdict."""
        return next(iter(self.verdicts(requests, responses).values()))

    def verdicts(self, requests: Sequence[str], responses: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Columns `label` (bool; None where it cannot be read) and `score` (then NaN) of every verdict, by what it is
        of. Raises ValueError for a label or word that the model does not have, a prompt that is too long, and a verdict
        that cannot be read."""
        tables = {}
        for target, score in self._ask(list(requests), list(responses)).items():
            label = (score > self.says[target].threshold).astype(object)
            label[np.isnan(score)] = None
            tables[target] = pd.DataFrame({"label": label, "score": score})
        return tables

    # ------------------------------------------------------------------------------------------------ what it is shown

    def _text(self, request: str, response: str) -> str:
        """The template with its fields replaced in one pass: braces inside an answer stay as they are."""
        context = self.contexts.get(request) if self.contextual else None
        fields = {"behavior": request, "generation": self._clipped(response), "context": context or ""}
        template = self.contextual if context else self.template
        return re.sub(r"\{(\w+)\}", lambda m: fields.get(m[1], m[0]), template)

    def _clipped(self, response: str) -> str:
        return clip_tokens(self.tokenizer, response, self.clip)

    def _prompts(self, requests: list[str], responses: list[str]) -> list[list[int]]:
        """Token ids of each row's prompt."""
        rows = zip(requests, responses, strict=True)
        if self.template is None:
            return [self._chat(request, response) for request, response in rows]
        texts = [self._text(*row) for row in rows]
        return [cut_left(self.tokenizer(t)["input_ids"], self.max_length, self.tokenizer.bos_token_id) for t in texts]

    def _chat(self, request: str, response: str) -> list[int]:
        turns = [{"role": "user", "content": request}]
        if self.reads == "both":
            turns.append({"role": "assistant", "content": self._clipped(response)})
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes its own
        if self.max_length is not None and len(ids) > self.max_length:
            raise ValueError(
                f"{self.name}: a prompt of {len(ids)} tokens is longer than max_length {self.max_length}, and a cut"
                " one would lose its instructions; raise max_length, or clip answers"
            )
        return ids

    # ------------------------------------------------------------------------------------------------- what it answers

    def _labels(self, requests: list[str], responses: list[str]) -> dict[str, NDArray[np.float64]]:
        config = self.model.config
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        for target, verdict in self.says.items():
            if unknown := sorted(set(verdict.scores) - set(labels)):
                raise ValueError(
                    f"{self.name}: says.{target}.scores has {unknown[0]!r}, and the labels of this model are"
                    f" {', '.join(labels)}"
                )
        limits = [self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None), self.max_length]
        cut = {"truncation": True, "max_length": min(limit for limit in limits if limit)}
        encoded = [self.tokenizer(*texts, **cut) for texts in self._plain(requests, responses)]
        logits = class_logits(self.model, self.tokenizer, encoded, self.batch_size)
        if config.num_labels == 1 or getattr(config, "problem_type", None) == "multi_label_classification":
            each = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
            join = np.max  # labels do not exclude each other: the worst counts
        else:
            each, join = _softmax(logits), np.sum
        worth = {t: np.array([verdict.scores.get(name, 0.0) for name in labels]) for t, verdict in self.says.items()}
        return {target: join(each * values, axis=1) for target, values in worth.items()}

    def _plain(self, requests: list[str], responses: list[str]) -> list[tuple[str, ...]]:
        """What a classifier's tokenizer is given: a text, or a pair of them."""
        rows = list(zip(requests, responses, strict=True))
        if self.template is not None:
            return [(self._text(*row),) for row in rows]
        clipped = [(request, self._clipped(response)) for request, response in rows]
        return [{"request": row[:1], "answer": row[1:], "both": row}[self.reads] for row in clipped]

    def _words(self, requests: list[str], responses: list[str]) -> dict[str, NDArray[np.float64]]:
        """Expected value over its words: softmax of their next-token logits."""
        prompts, scores = self._prompts(requests, responses), {}
        ids = {word: token_id(self.tokenizer, word) for verdict in self.says.values() for word in verdict.scores}
        logits = last_logits(self.model, prompts, list(ids.values()), self.batch_size)
        for target, verdict in self.says.items():
            mine = [list(ids).index(word) for word in verdict.scores]
            scores[target] = _softmax(logits[:, mine]) @ np.array(list(verdict.scores.values()), dtype=float)
        return scores

    def _lines(self, requests: list[str], responses: list[str]) -> dict[str, NDArray[np.float64]]:
        prompts = self._prompts(requests, responses)
        texts = written(self.model, self.tokenizer, prompts, self.max_new_tokens, self.batch_size)
        scores = {}
        for target, verdict in self.says.items():
            read = [verdict.read(answer_of(text)) for text in texts]
            missing = [row for row, value in enumerate(read) if value is None]
            if missing and self.unread == "fail":
                raise ValueError(
                    f"{self.name}: its verdict on {len(missing)} of {len(read)} answers (the first: row"
                    f" {missing[0] + 1}) cannot be read: says.{target} wants {verdict.form}; correct it, raise"
                    " max_new_tokens, or set unread to leave_out"
                )
            scores[target] = np.array([np.nan if value is None else value for value in read], dtype=float)
        return scores


def check_fields(name: str, template: str, reads: str, context: bool = False) -> None:
    """Raises ValueError unless a template has the fields of what the judge reads, and no other."""
    needed = [*FIELDS[reads], *(["context"] if context else [])]
    for field in needed:
        if "{" + field + "}" not in template:
            raise ValueError(f"{name}: it reads {reads}, and its template has no field {{{field}}}")
    for field, part in PARTS.items():
        if field not in needed and "{" + field + "}" in template:
            raise ValueError(f"{name}: it reads {reads}, and its template shows the {part} too: {{{field}}}")


def load_judge(kind: str, folder: Path, base: Path | None = None, device: str = "cpu", dtype: str = "float32"):
    """(model, tokenizer) of a folder. An adapter (StrongREJECT's is a LoRA) is merged into the model of `base`. Raises
    ValueError where weights are missing, which would be random."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    auto = AutoModelForSequenceClassification if kind == "classifier" else AutoModelForCausalLM
    options = {"dtype": getattr(torch, dtype), "output_loading_info": True}
    model, report = auto.from_pretrained(folder if base is None else base, **options)
    if lost := sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]):
        raise ValueError(f"{folder}: {lost[0]} is not among its weights ({len(lost)} such): it is no {kind}")
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
