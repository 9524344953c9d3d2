"""Judge completions: refusal class, attack success, usefulness, quality, benign utility. The output carries no text.

--completions and --judged come in the same order. Completions are JSON Lines (safety_geometry.artefacts.completions).
--refusal, --harm: artefacts of train_judges.py (without them: rules only); --embeddings: folder with the model of
sentence embeddings (params.embeddings_folder below it). --harmbench-model, --strongreject-model: folders of published
judges, which then give attack success and usefulness (-base: of an adapter's base model); -template,
-contextual-template (rows with a context): their prompts. --params: decision (rules, either, trained), success (what
attack success is at most), device, dtype, batch_size, grow_batches.
"""

from pathlib import Path

from _job import Job, JobError, explained

from safety_geometry.artefacts.completions import read_completions
from safety_geometry.artefacts.text_files import text_of
from safety_geometry.judges.judging import judge_rows, meaning_of_success, trained_judges
from safety_geometry.judges.published import Published, Said

PARTS = {
    "harmbench": ("model", "base", "template", "contextual_template"),
    "strongreject": ("model", "base", "template"),
}
PUBLISHED = [f"{judge}_{part}?" for judge, parts in PARTS.items() for part in parts]


def main() -> None:
    job = Job(__doc__, inputs=["completions*", "refusal?", "harm?", "embeddings?", *PUBLISHED], outputs=["judged*"])
    files = job.completions
    if not files or len(files) != len(job.judged):
        raise JobError(f"{len(job.judged)} outputs for {len(files)} files of completions; name one for each")
    rows = {path: read_completions(path) for path in files}
    harm, usefulness = (verdicts(job, name, rows) for name in ("harmbench", "strongreject"))
    trained = trained_judges(job.refusal, job.harm, job.embeddings and job.embeddings / job.params["embeddings_folder"])
    means = meaning_of_success(None if harm else job.harm, job.params.get("success"))
    trained |= {"decision": job.params.get("decision", "rules"), "success_means": means}
    for path, output in zip(files, job.judged, strict=True):
        judges = trained | {"harm": harm.get(path, trained["harm"]), "usefulness": usefulness.get(path)}
        with explained(ValueError, of=path):
            table = judge_rows(rows[path], path, **judges)
        job.part(completions=[path]).write_table(table, output, "judged")


def verdicts(job: Job, name: str, rows: dict[Path, list[dict]]) -> dict[Path, Said]:
    """What a published judge says of each file with rows; nothing without its folder."""
    files = {part: path for part in PARTS[name] if (path := getattr(job, f"{name}_{part}")) is not None}
    if "model" not in files:
        return {}
    from _gpu import batch_size, share  # torch only where it is used

    texts = {part: text_of(path) for part, path in files.items() if part.endswith("template")}
    share(job, job.params)
    size = batch_size(job, f"{name}'s prompts", job.params.get("batch_size", 8))
    settings = {key: job.params[key] for key in ("device", "dtype") if key in job.params}
    with explained(ValueError):
        return Published(name, files["model"], files.get("base"), **texts).says(rows, size, **settings)


if __name__ == "__main__":
    main()
