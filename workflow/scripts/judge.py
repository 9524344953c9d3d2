"""Judge completions: refusal class, attack success, usefulness, quality, benign utility. The output carries no text.

--completions: JSON Lines with id, suite, prompt_id, prompt, completion, n_tokens, hit_limit; optionally request (the
plain behaviour, where the prompt carries an attack), bucket, type, must, min_words.
--refusal, --harm: artefacts of train_judges.py (without them: rules only). --params: decision (rules, either, trained).
"""

import json
from pathlib import Path

import pandas as pd
from _job import Job, JobError, read_jsonl

from safety_geometry.judges import judge_completions, make
from safety_geometry.judges.utility import UtilityItem

NEEDED = ("id", "suite", "prompt_id", "prompt", "completion", "n_tokens", "hit_limit")
COLUMNS = (
    "id", "suite", "prompt_id", "type", "refusal", "any_refusal", "refusal_score", "harm_score", "attack_success",
    "usefulness", "degenerate", "hit_limit", "n_tokens", "off_topic", "utility", "judge_refusal", "judge_harm",
)  # fmt: skip


def judge(path: Path | None, model: str, name: str):
    """The judge `name` from entry `model` of an artefact; None without a file."""
    if path is None:
        return None
    try:
        return make(name, artefact=json.loads(path.read_text())[model])
    except (KeyError, ValueError) as error:
        raise JobError(f"{path}: no trained judge {model!r} ({error}); run the rule that trains the judges") from error


def utility_items(rows: list[dict], path: Path) -> dict[str, UtilityItem]:
    try:
        return {r["id"]: UtilityItem.of(r["must"], r["min_words"], r["prompt_id"]) for r in rows if r.get("must")}
    except (KeyError, ValueError) as error:
        raise JobError(f"{path}: a benign-utility row cannot be scored: {error}") from error


def main() -> None:
    job = Job(__doc__, inputs=["completions", "refusal?", "harm?"], outputs=["judged"])
    rows = read_jsonl(job.completions)
    if not rows:
        raise JobError(f"{job.completions}: no completions")
    for number, row in enumerate(rows, 1):
        if missing := [name for name in NEEDED if name not in row]:
            raise JobError(f"{job.completions}, row {number}: missing {', '.join(missing)}")
    frame = pd.DataFrame(
        {name: [row[name] for row in rows] for name in NEEDED}
        | {"request": [row.get("request") or row["prompt"] for row in rows]}
        | {"type": [row.get("type") or row.get("bucket") for row in rows]}
    )
    try:
        judged = judge_completions(
            frame,
            refusal=judge(job.refusal, "refusal", "refusal_trained"),
            harm=judge(job.harm, "harm", "harm_trained"),
            utility_items=utility_items(rows, job.completions),
            off_topic=judge(job.refusal, "off_topic", "refusal_trained"),
            decision=job.params.get("decision", "rules"),
        )
    except ValueError as error:
        raise JobError(f"{job.completions}: {error}") from error
    for name in ("suite", "prompt_id", "type", "n_tokens"):
        judged[name] = frame[name].to_numpy()
    with job.publish(job.judged) as scratch:
        judged[list(COLUMNS)].to_csv(scratch, index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    main()
