"""Prompt files of the field, read into rows of one form: ``{"id", "prompt", "source", …}``.

`id` is ``<source>-<first 10 hex digits of the SHA-256 of the normalised prompt>``: the same prompt keeps its id when the
file around it changes. A row may also carry `request` (the bare request where `prompt` wraps it in a context), `label`
(``harmful`` or ``benign`` where the file says so) and `targets` (affirmative openings that come with the file).
"""

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Iterator

import yaml

LABELS = ("harmful", "benign")
CONTEXT = "{context}\n\n---\n\n{request}"  # how HarmBench shows a contextual behaviour to the model


class PromptError(ValueError):
    """A prompt file does not have the form that its format promises. Names row and field, never quotes a prompt."""


def normalise(text: str) -> str:
    """Case-folded, punctuation and runs of white space as one space (Unicode NFKC): equal means "the same prompt"."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def words_of(text: str) -> frozenset[str]:
    """A word list written as one text."""
    return frozenset(text.split())


def prompt_id(source: str, prompt: str) -> str:
    """``<source>-<10 hex digits>`` of the normalised prompt (of the raw text where nothing alphanumeric is in it)."""
    return f"{source}-{hashlib.sha256((normalise(prompt) or prompt).encode()).hexdigest()[:10]}"


def request_of(row: dict) -> str:
    """What is asked for, without the context around it: what near-duplicates and targets go by."""
    return row.get("request") or row["prompt"]


def parse(format: str, text: str, source: str, targets: str | None = None) -> list[dict]:
    """Rows of one prompt file; a prompt that occurs again in the file is left out after its first place.

    `format` is a key of FORMATS; `targets` is the text of a JSON file {behaviour id: opening or list of openings} that
    goes with format ``harmbench_csv``. Raises PromptError (unknown format, missing column, bad JSON, no rows).
    """
    if format not in FORMATS:
        raise PromptError(f"{source}: format {format!r} is unknown; it has to be one of {', '.join(FORMATS)}")
    openings = _targets(targets, source) if targets is not None else {}
    rows: dict[str, dict] = {}
    for number, found in enumerate(FORMATS[format](text.removeprefix("\ufeff"), source), 1):
        prompt = found.pop("prompt", None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(
                f"{source}: prompt {number} is empty or not a text; correct the file or its format ({format})"
            )
        if found.get("label", "harmful") not in LABELS:
            raise PromptError(f"{source}: prompt {number} has a label that is not one of {', '.join(LABELS)}")
        row = {"id": prompt_id(source, prompt), "prompt": prompt.strip(), "source": source}
        row |= {key: value for key, value in found.items() if value not in (None, "", [])}
        if row.get("behavior_id") in openings:
            row["targets"] = openings[row["behavior_id"]]
        rows.setdefault(row["id"], row)
    if not rows:
        raise PromptError(f"{source}: no prompts in the file; is it of format {format}?")
    if openings and not any("targets" in row for row in rows.values()):
        raise PromptError(
            f"{source}: no behaviour of the file is in its targets file; give the targets that go with it"
        )
    return list(rows.values())


def _targets(text: str, source: str) -> dict[str, list[str]]:
    found = _json(text, source, dict)
    return {key: [value] if isinstance(value, str) else list(value) for key, value in found.items()}


def _json(text: str, source: str, kind: type, place: str = "the file"):
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptError(f"{source}: {place} is not JSON ({error.msg}, line {error.lineno})") from error
    if not isinstance(value, kind):
        raise PromptError(f"{source}: {place} holds a JSON {type(value).__name__} where a {kind.__name__} is expected")
    return value


def _table(text: str, source: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise PromptError(f"{source}: the CSV file has no column {', '.join(missing)}; it has {reader.fieldnames}")
    yield from reader


def _advbench(text: str, source: str) -> Iterator[dict]:
    """PyRIT's seed file: YAML with `seeds`, each a text or {value, harm_categories, …}."""
    try:
        seeds = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["seeds"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise PromptError(f"{source}: not a seed file: YAML with a list `seeds` ({type(error).__name__})") from error
    for seed in seeds:
        seed = {"value": seed} if isinstance(seed, str) else seed
        yield {"prompt": seed.get("value"), "categories": seed.get("harm_categories")}


def _lines(text: str, source: str) -> Iterator[dict]:
    yield from ({"prompt": line} for line in text.split("\n") if line.strip())


def _json_lines(text: str, source: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _json(line, source, dict, f"line {number}")


def _own(text: str, source: str) -> Iterator[dict]:
    """The project's own files: every field is kept; a field `id` becomes `key`."""
    for row in _json_lines(text, source):
        if reserved := sorted({"role", "source"} & set(row)):
            raise PromptError(f"{source}: field {', '.join(reserved)} is set by the pipeline; rename it in the file")
        yield {"key" if name == "id" else name: value for name, value in row.items()}


def _do_not_answer(text: str, source: str) -> Iterator[dict]:
    yield from ({"prompt": row.get("prompt"), "categories": row.get("intents")} for row in _json_lines(text, source))


def _harmbench(text: str, source: str) -> Iterator[dict]:
    """HarmBench's behaviours, also adv_training_behaviors.csv (no functional category: all are standard)."""
    for row in _table(text, source, ("Behavior", "ContextString", "BehaviorID")):
        request, context = row["Behavior"].strip(), row["ContextString"].strip()
        functional = row.get("FunctionalCategory") or ("contextual" if context else "standard")
        kept = {"functional": functional, "semantic": row.get("SemanticCategory"), "behavior_id": row["BehaviorID"]}
        wrapped = {"request": request, "context": context} if context else {}
        yield {"prompt": CONTEXT.format(context=context, request=request) if context else request, **wrapped, **kept}


def _xstest(text: str, source: str) -> Iterator[dict]:
    labels = {"safe": "benign", "unsafe": "harmful"}
    for row in _table(text, source, ("prompt", "type", "label")):
        kept = {"type": row["type"], "focus": row.get("focus"), "label": labels.get(row["label"], row["label"])}
        yield {"prompt": row["prompt"], **kept}


def _strongreject(text: str, source: str) -> Iterator[dict]:
    for row in _table(text, source, ("category", "forbidden_prompt")):
        yield {"prompt": row["forbidden_prompt"], "category": row["category"], "origin": row.get("source")}


def _cosmic(text: str, source: str) -> Iterator[dict]:
    """COSMIC's and refusal_direction's splits: a JSON list of {instruction, category}."""
    for row in _json(text, source, list):
        yield {"prompt": row.get("instruction"), "category": row.get("category")}


def _pyrit_labels(text: str, source: str) -> Iterator[dict]:
    """The requests (column `objective`) of PyRIT's human-labelled responses; comment lines stand above the header."""
    while text.startswith("#"):
        text = text.partition("\n")[2]
    for row in _table(text, source, ("objective",)):
        yield {"prompt": row["objective"]}


def _labelled(text: str, source: str) -> Iterator[dict]:
    """The requests (field `request`) of labelled responses in JSON Lines."""
    yield from ({"prompt": row.get("request")} for row in _json_lines(text, source))


FORMATS: dict[str, Callable[[str, str], Iterator[dict]]] = {
    "advbench_prompt": _advbench,
    "lines": _lines,
    "donotanswer_jsonl": _do_not_answer,
    "jsonl": _own,
    "harmbench_csv": _harmbench,
    "xstest_csv": _xstest,
    "strongreject_csv": _strongreject,
    "cosmic_json": _cosmic,
    "pyrit_labels": _pyrit_labels,
    "labelled_jsonl": _labelled,
}
