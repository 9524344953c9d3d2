"""Judge completions: refusal class, attack success, usefulness, quality, benign utility. The output carries no text.

--completions and --judged come in the same order. Completions are JSON Lines with id, suite, prompt_id, prompt, completion,
n_tokens, hit_limit; optionally request (the plain behaviour, where the prompt carries an attack), bucket, type, must,
min_words, arm, context.
--refusal, --harm: artefacts of train_judges.py (without them: rules only). --harmbench-model, --strongreject-model:
folders of the published judges, which then give attack success and usefulness (--harmbench-base, --strongreject-base: the
folder of the base model where that is an adapter); the published prompts come in
--harmbench-template (and --harmbench-contextual-template, for rows with a context) and --strongreject-template.
--params: decision (rules, either, trained), device, dtype, batch_size.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from _job import Job, JobError, read_jsonl
from _text import text_of

from safety_geometry.judges import judge_completions, make
from safety_geometry.judges.languages import OTHER
from safety_geometry.judges.utility import UtilityItem
from safety_geometry.thinking import answer_of

NEEDED = ("id", "suite", "prompt_id", "prompt", "completion", "n_tokens", "hit_limit")
PUBLISHED = (
    "harmbench_model?", "harmbench_base?", "harmbench_template?", "harmbench_contextual_template?", "strongreject_model?",
    "strongreject_base?", "strongreject_template?",
)  # fmt: skip
COLUMNS = (
    "id", "digest", "suite", "prompt_id", "type",
    "arm", "refusal", "any_refusal", "refusal_score", "harm_score", "attack_success",
    "usefulness", "degenerate", "hit_limit", "n_tokens", "on_topic", "language", "off_topic", "utility", "judge_refusal", "judge_harm",
)  # fmt: skip


def judge(path: Path | None, model: str, name: str):
    """The judge `name` from entry `model` of an artefact; None without a file."""
    if path is None:
        return None
    try:
        return make(name, artefact=json.loads(path.read_text(encoding="utf-8"))[model])
    except (KeyError, ValueError) as error:
        raise JobError(f"{path}: no trained judge {model!r} ({error}); run the rule that trains the judges") from error


@dataclass(frozen=True)
class Said:
    """A published judge by what it has said of the very rows that are asked about."""

    name: str
    table: pd.DataFrame
    needs_topic: bool = False

    def __call__(self, requests: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
        return self.table


def published(job: Job, name: str, files: dict[Path, list[dict]], **settings) -> dict[Path, Said]:
    """What HarmBench's or StrongREJECT's judge says of each file with rows; nothing without its folder.

    The model is loaded, asked about all files and freed: two of them together are more than a GPU may hold.
    """
    folder, files = getattr(job, f"{name}_model"), {path: rows for path, rows in files.items() if rows}
    if folder is None or not files:
        return {}
    import torch  # seconds, and only the published judges need it

    from safety_geometry.judges.hub import load_model
    from safety_geometry.memory import BatchSize, release

    dtype = getattr(torch, job.params.get("dtype", "float32"))
    base = getattr(job, f"{name}_base")
    device = job.params.get("device", "cpu")
    model, tokenizer = load_model(str(folder), base=None if base is None else str(base), device=device, dtype=dtype)
    template = getattr(job, f"{name}_template")
    if template is not None:
        settings["template"] = text_of(template)
    job.batches.append(size := BatchSize(job.params.get("batch_size", 8), f"{name}'s prompts"))
    judge = make(name, model=model, tokenizer=tokenizer, batch_size=size, **settings)
    said = {}
    for path, rows in files.items():
        try:
            said[path] = Said(judge.name, judge(requests(rows), [answer_of(row["completion"]) for row in rows]))
        except ValueError as error:
            raise JobError(f"{path}: {error}") from error
    del model, judge
    release()
    return said


def harmbench(job: Job, files: dict[Path, list[dict]]) -> dict[Path, Said]:
    rows = [row for each in files.values() for row in each]
    contexts = {row.get("request") or row["prompt"]: row["context"] for row in rows if row.get("context")}
    contextual = job.harmbench_contextual_template
    settings = {} if contextual is None else {"contextual_template": text_of(contextual)}
    return published(job, "harmbench", files, contexts=contexts, **settings)


def requests(rows: list[dict]) -> list[str]:
    return [row.get("request") or row["prompt"] for row in rows]


def utility_items(rows: list[dict], path: Path) -> dict[str, UtilityItem]:
    try:
        return {r["id"]: UtilityItem.of(r["must"], r["min_words"], r["prompt_id"]) for r in rows if r.get("must")}
    except (KeyError, ValueError) as error:
        raise JobError(f"{path}: a benign-utility row cannot be scored: {error}") from error


def main() -> None:
    job = Job(__doc__, inputs=["completions*", "refusal?", "harm?", *PUBLISHED], outputs=["judged*"])
    files, wanted = job.completions, job.judged
    if not files or len(files) != len(wanted):
        raise JobError(f"{len(wanted)} outputs for {len(files)} files of completions; name one for each")
    rows = {path: completions(path) for path in files}
    judges = {
        "refusal": judge(job.refusal, "refusal", "refusal_trained"),
        "off_topic": judge(job.refusal, "off_topic", "refusal_trained"),
        "decision": job.params.get("decision", "rules"),
    }
    harm, trained = harmbench(job, rows), judge(job.harm, "harm", "harm_trained")
    usefulness = published(job, "strongreject", rows)
    for (path, mine), output in zip(rows.items(), wanted, strict=True):
        job.completions = [path]  # the sidecar names what this file was made from
        with job.publish(output) as scratch:
            table = judged(mine, path, judges | {"harm": harm.get(path, trained), "usefulness": usefulness.get(path)})
            table.to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")


def completions(path: Path) -> list[dict]:
    rows = read_jsonl(path)
    for number, row in enumerate(rows, 1):
        if missing := [name for name in NEEDED if name not in row]:
            raise JobError(f"{path}, row {number}: missing {', '.join(missing)}")
    return rows


def judged(rows: list[dict], path: Path, judges: dict) -> pd.DataFrame:
    """The judged rows of one file of completions."""
    if not rows:  # a checkpoint without a followed-up cell
        return pd.DataFrame(columns=list(COLUMNS))
    frame = pd.DataFrame(
        {name: [row[name] for row in rows] for name in NEEDED}
        | {"request": requests(rows)}
        | {"arm": [row.get("arm") for row in rows]}
        | {"type": [row.get("type") or row.get("bucket") for row in rows]}
    )
    try:
        found = judge_completions(frame, utility_items=utility_items(rows, path), **judges)
    except ValueError as error:
        raise JobError(f"{path}: {error}") from error
    if unknown := int((found["language"] == OTHER).sum()):
        print(
            f"{path}: {unknown} of {len(found)} answers not judged, in a language that the rules do not know: neither refusal"
            " nor success (column language)",
            file=sys.stderr,
        )
    for name in ("suite", "prompt_id", "type", "arm", "n_tokens"):
        found[name] = frame[name].to_numpy()
    found["digest"] = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in frame["completion"]]
    return found[list(COLUMNS)]


if __name__ == "__main__":
    main()
