"""Prompt files of the field, read into rows of one form: ``{"id", "prompt", "source", …}``.

`id` is ``<source>-<first 10 hex digits of the SHA-256 of the normalised prompt>``: the same prompt keeps its id when
the file around it changes. A row may also carry `request` (the bare request where `prompt` wraps it in a context),
`label` (``harmful`` or ``benign`` where the file says so), `targets` (affirmative openings that come with the file) and
`messages` (the conversation that the prompt opens, where the file has its answers).
"""

import hashlib
import logging
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import yaml

from safety_geometry.artefacts import text_files
from safety_geometry.artefacts.text_files import TextFileError, one_line_end

log = logging.getLogger(__name__)

LABELS = ("harmful", "benign")
CHAT_COLUMNS = ("prompt", "messages")  # of a row of UltraChat
CONTEXT = "{context}\n\n---\n\n{request}"  # how HarmBench shows a contextual behaviour to the model


class PromptError(ValueError):
    """A prompt file does not have the form that its format promises. Names row and field, never quotes a prompt."""


def normalise(text: str) -> str:
    """Case-folded, punctuation and runs of white space as one space (Unicode NFKC): equal means "the same prompt".

    Letters, digits, the marks that belong to letters (vowel signs, accents) and symbols beyond ASCII (emoji, ≤, €)
    count; invisible characters do not. A text of punctuation only stays as it is, but for white space around it.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(map(_counted, folded)).split()) or text.strip()


@lru_cache(maxsize=4096)
def _counted(character: str) -> str:
    """What a character adds to a normalised text: itself, nothing or a space."""
    category = unicodedata.category(character)
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f":  # invisible: joiners, soft hyphens, variants of an emoji
        return ""
    if category[0] == "S" and not character.isascii():
        return f" {character} "  # a word of its own, whether or not a blank stands before it
    return character if character.isalnum() or is_mark(character) else " "


def is_mark(character: str) -> bool:
    """A sign that is part of the letter before it, as Hindi's and Thai's vowels are."""
    return unicodedata.category(character)[0] == "M"


def words_of(text: str) -> frozenset[str]:
    """A word list written as one text."""
    return frozenset(text.split())


def prompt_id(source: str, prompt: str) -> str:
    """``<source>-<10 hex digits>`` of the normalised prompt."""
    return f"{source}-{hashlib.sha256(normalise(prompt).encode()).hexdigest()[:10]}"


def request_of(row: dict) -> str:
    """What is asked for, without the context around it: what near-duplicates and targets go by."""
    return row.get("request") or row["prompt"]


@dataclass
class Repeats:
    """Prompts that are left out because one with the same normalised text came before: to the letter the `same`, or
    `alike` in all but case, white space and punctuation."""

    same: int = 0
    alike: int = 0
    _seen: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # id: hash of the text, label

    def new(self, row: Mapping) -> bool:
        """Whether the row's prompt comes for the first time. Raises PromptError when it came with another label."""
        text, label = hash(row["prompt"]), row.get("label")
        if row["id"] not in self._seen:
            self._seen[row["id"]] = text, label
            return True
        first_text, first_label = self._seen[row["id"]]
        if first_label != label:
            raise PromptError(
                f"{row['source']}: prompt {row['id']} is there as {first_label} and as {label}; correct the label of"
                " one of them"
            )
        self.same += first_text == text
        self.alike += first_text != text
        return False

    def __str__(self) -> str:
        return (
            f"{self.same} prompt(s) repeat one before and {self.alike} differ from one before in case, white space or"
            " punctuation only; each is taken once"
        )


def rows_in(text: str, format: str, source: str, openings: Mapping[str, list[str]]) -> Iterator[dict]:
    """Rows of one prompt file, one that occurs again too, with the openings of its behaviour. Raises
    PromptError (unknown format, missing column, bad JSON, no rows)."""
    empty = True
    for row in checked(entries_in(text, format, source), format, source):
        empty = False
        if openings and row.get("behavior_id") in openings:
            row["targets"] = openings[row["behavior_id"]]
        yield row
    if empty:
        why = f"is it of format {format}?" if text.strip("\ufeff \t\r\n") else "it is empty"
        raise PromptError(f"{source}: no prompts in the file; {why}")


def entries_in(text: str, format: str, source: str) -> Iterator[dict]:
    """What a file of `format` says, prompt by prompt. Raises PromptError for a format that is not one of FORMATS."""
    if format not in FORMATS:
        raise PromptError(f"{source}: format {format!r} is unknown; it has to be one of {', '.join(FORMATS)}")
    with of_source(source):
        yield from FORMATS[format](one_line_end(text.removeprefix("\ufeff")), source)


@contextmanager
def of_source(source: str) -> Iterator[None]:
    """A fault of a text file as a PromptError of the source."""
    try:
        yield
    except TextFileError as error:
        raise PromptError(f"{source}: {error}") from error


def checked(entries: Iterable[dict], format: str, source: str) -> Iterator[dict]:
    """Rows with id and source of what a reader found, empty fields left out; a prompt that occurs again comes again."""
    for number, fields in enumerate(entries, 1):
        prompt = fields.pop("prompt", None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(
                f"{source}: prompt {number} is empty or not a text; correct the file or its format ({format})"
            )
        if "\0" in prompt:
            raise PromptError(f"{source}: prompt {number} holds a NUL character; is the file damaged?")
        for name in ("request", "context", "target"):
            if not isinstance(fields.get(name, ""), str | None):
                raise PromptError(f"{source}: {name} of prompt {number} is a {type(fields[name]).__name__}, not a text")
        openings = fields.get("targets") or []
        if not isinstance(openings, list) or not all(
            isinstance(opening, str) and opening.strip() for opening in openings
        ):
            raise PromptError(f"{source}: targets of prompt {number} are not a list of texts")
        label = fields.get("label", "harmful")
        if not isinstance(label, str) or label not in LABELS:
            raise PromptError(f"{source}: prompt {number} has a label that is not one of {', '.join(LABELS)}")
        row = {"id": prompt_id(source, prompt), "prompt": one_line_end(prompt).strip(), "source": source}
        yield row | {key: value for key, value in fields.items() if value not in (None, "", [])}


def read_targets(text: str, source: str) -> dict[str, list[str]]:
    """{behaviour id: openings} from the text of a JSON file {behaviour id: opening or list of openings} (HarmBench's,
    where some of a list are empty and are left out)."""
    openings = {}
    for key, value in _json(text, source, dict).items():
        several = [value] if isinstance(value, str) else value
        kept = [v for v in several if isinstance(v, str) and v.strip()] if isinstance(several, list) else []
        if not kept:
            raise PromptError(f"{source}: behaviour {key} has no opening: each needs a text or a list of texts")
        openings[key] = kept
    return openings


def _json(text: str, source: str, kind: type):
    with of_source(source):
        return text_files.json_value(text.removeprefix("\ufeff"), kind)


def _advbench(text: str, source: str) -> Iterator[dict]:
    """PyRIT's seed file: YAML with `seeds`, each a text or {value, harm_categories, …}."""
    try:
        seeds = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["seeds"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"{source}: not a seed file: YAML with a list `seeds` ({type(error).__name__})") from error
    if not isinstance(seeds, list):
        raise PromptError(f"{source}: not a seed file: `seeds` is a {type(seeds).__name__}, not a list")
    for number, seed in enumerate(seeds, 1):
        seed = {"value": seed} if isinstance(seed, str) else seed
        if not isinstance(seed, dict):
            raise PromptError(f"{source}: seed {number} is neither a text nor a mapping with a value")
        categories = seed.get("harm_categories") or []
        # YAML's aliases can nest a short text into gigabytes.
        if not isinstance(categories, list) or not all(isinstance(category, str) for category in categories):
            raise PromptError(f"{source}: harm_categories of seed {number} are not a list of texts")
        yield {"prompt": seed.get("value"), "categories": categories}


def _advbench_csv(text: str, source: str) -> Iterator[dict]:
    """llm-attacks' harmful_behaviors.csv: a goal and its affirmative opening a row."""
    for row in text_files.table(text, ("goal", "target"), source):
        yield {"prompt": row["goal"], "targets": [row["target"]] if row["target"] else None}


def _json_lines(text: str, source: str) -> Iterator[dict]:
    yield from (row for _, row in text_files.json_lines(text))


def _own(text: str, source: str) -> Iterator[dict]:
    """The project's own files: every field is kept; a field `id` becomes `key`."""
    for number, row in enumerate(_json_lines(text, source), 1):
        if reserved := sorted({"role", "source"} & set(row)):
            raise PromptError(f"{source}: field {', '.join(reserved)} is set by the pipeline; rename it in the file")
        if {"id", "key"} <= set(row):
            raise PromptError(
                f"{source}: prompt {number} has an id, which is kept as key, and a key; rename one of them"
            )
        if not isinstance(row.get("answer", ""), str):
            raise PromptError(
                f"{source}: the answer of prompt {number} is a {type(row['answer']).__name__}, not a text"
            )
        if row.get("messages") is not None and not list(conversation(row["messages"], source, number)):
            raise PromptError(
                f"{source}: the messages of row {number} are no conversation: texts of user and assistant in turns, the"
                " user's first"
            )
        yield {"key" if name == "id" else name: value for name, value in row.items()}


def _harmbench(text: str, source: str) -> Iterator[dict]:
    """HarmBench's behaviours, also adv_training_behaviors.csv (no functional category: all are standard)."""
    for row in text_files.table(text, ("Behavior", "ContextString", "BehaviorID"), source):
        request, context = row["Behavior"].strip(), row["ContextString"].strip()
        functional = row.get("FunctionalCategory") or ("contextual" if context else "standard")
        kept = {"functional": functional, "semantic": row.get("SemanticCategory"), "behavior_id": row["BehaviorID"]}
        wrapped = {"request": request, "context": context} if context else {}
        yield {"prompt": CONTEXT.format(context=context, request=request) if context else request, **wrapped, **kept}


def _xstest(text: str, source: str) -> Iterator[dict]:
    labels = {"safe": "benign", "unsafe": "harmful"}
    for row in text_files.table(text, ("prompt", "type", "label"), source):
        kept = {"type": row["type"], "focus": row.get("focus"), "label": labels.get(row["label"], row["label"])}
        yield {"prompt": row["prompt"], **kept}


def _cosmic(text: str, source: str) -> Iterator[dict]:
    """COSMIC's and refusal_direction's splits: a JSON list of {instruction, category}."""
    for number, row in enumerate(_json(text, source, list), 1):
        if not isinstance(row, dict) or "instruction" not in row:
            has = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise PromptError(f"{source}: entry {number} has no field instruction; it has {has}")
        yield {"prompt": row["instruction"], "category": row.get("category")}


def _messages(text: str, source: str) -> Iterator[object]:
    for number, row in enumerate(_json_lines(text, source), 1):
        if missing := [name for name in CHAT_COLUMNS if name not in row]:
            raise PromptError(
                f"{source}: line {number} has no field {', '.join(missing)}; it has {sorted(row)}, and "
                f"{', '.join(CHAT_COLUMNS)} are needed"
            )
        yield row["messages"]


def conversations(several: Iterable[object], source: str) -> Iterator[dict]:
    """Of each of several lists of messages what `conversation` gives; says how many cannot be trained on."""
    left_out = number = 0
    for number, messages in enumerate(several, 1):
        kept = list(conversation(messages, source, number))
        left_out += not kept
        yield from kept
    if left_out:
        log.warning(
            "%s: %d of %d conversations do not take turns from the user on, or have an empty one: left out",
            source,
            left_out,
            number,
        )


def conversation(messages: object, source: str, number: int) -> Iterator[dict]:
    """The prompt and messages of one conversation; nothing when it cannot be trained on.

    `messages` is a list of {role, content}. It has to begin with the user and take turns; an unanswered last turn is
    cut off. Raises PromptError when it is no such list.
    """
    try:
        turns = [{"role": m["role"], "content": m["content"]} for m in messages]  # type: ignore[union-attr]
    except (TypeError, KeyError, IndexError) as error:
        raise PromptError(
            f"{source}: the messages of row {number} are not a list of {{role, content}} ({type(error).__name__})"
        ) from error
    if turns and turns[-1]["role"] == "user":
        turns.pop()
    roles = [turn["role"] for turn in turns]
    whole = all(isinstance(turn["content"], str) and turn["content"].strip() for turn in turns)
    if turns and whole and roles == ["user", "assistant"] * (len(turns) // 2):
        yield {"prompt": turns[0]["content"], "messages": turns}


def _fields(rows: Iterable[Mapping], **names: str) -> Iterator[dict]:
    """Of each row the fields that are named, by the name that they get."""
    return ({field: row.get(name) for field, name in names.items()} for row in rows)


FORMATS: dict[str, Callable[[str, str], Iterator[dict]]] = {
    "advbench_prompt": _advbench,
    "lines": lambda text, source: ({"prompt": line} for line in text.split("\n") if line.strip()),
    "advbench_csv": _advbench_csv,
    "donotanswer_jsonl": lambda text, source: _fields(_json_lines(text, source), prompt="prompt", categories="intents"),
    "jsonl": _own,
    "harmbench_csv": _harmbench,
    "xstest_csv": _xstest,
    "strongreject_csv": lambda text, source: _fields(
        text_files.table(text, ("category", "forbidden_prompt"), source),
        prompt="forbidden_prompt",
        category="category",
        origin="source",
    ),
    "cosmic_json": _cosmic,
    # UltraChat-200k in JSON Lines; `files` reads the same rows from Parquet.
    "ultrachat": lambda text, source: conversations(_messages(text, source), source),
    # The requests of PyRIT's human-labelled responses; comment lines stand above the header.
    "pyrit_labels": lambda text, source: _fields(
        text_files.table(text_files.below_comments(text), ("objective",), source), prompt="objective"
    ),
    # The requests of labelled responses in JSON Lines.
    "labelled_jsonl": lambda text, source: _fields(_json_lines(text, source), prompt="request"),
}
