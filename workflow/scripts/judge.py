"""Judge completions: refusal class, attack success, usefulness, quality, benign utility. The output carries no text.

--completions and --judged come in the same order. --refusal, --harm: artefacts of train_judges.py (without them: rules
only); --embeddings: folder with the model of sentence embeddings (params.embeddings_folder below it).
--refusal-verdicts, --harm-verdicts, --usefulness-verdicts: tables of verdicts.py, one for each file of completions; the
judge that params.models names for this then takes the trained one's place. --params: decision (rules, either, trained),
success (what attack success is at most), models.
"""

from pathlib import Path

from _job import Job, JobError, explained

from safety_geometry.artefacts.completions import read_completions
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.judges.judging import judge_rows, meaning_of_success, trained_judges
from safety_geometry.judges.verdicts import Said

TARGETS = {"refusal": "refusal", "harm": "harm", "usefulness": "harm"}  # what a judge in each place has to say


def main() -> None:
    verdicts = [f"{place}_verdicts*" for place in TARGETS]
    job = Job(__doc__, inputs=["completions*", "refusal?", "harm?", "embeddings?", *verdicts], outputs=["judged*"])
    files = job.completions
    if not files or len(files) != len(job.judged):
        raise JobError(f"{len(job.judged)} outputs for {len(files)} files of completions; name one for each")
    trained = trained_judges(job.refusal, job.harm, job.embeddings and job.embeddings / job.params["embeddings_folder"])
    means = meaning_of_success(None if job.harm_verdicts else job.harm, job.params.get("success"))
    trained |= {"decision": job.params.get("decision", "rules"), "success_means": means}
    for number, (path, output) in enumerate(zip(files, job.judged, strict=True)):
        rows = read_completions(path)
        files_read, models = models_of(job, number, rows)
        with explained(ValueError, of=path):
            table = judge_rows(rows, path, **trained | models)
        job.part(completions=[path], **files_read).write_table(table, output, "judged")


def models_of(job: Job, number: int, rows: list[dict]) -> tuple[dict[str, list[Path]], dict[str, Said]]:
    """Tables of verdicts on the file of that number, by their option, and the judges that decide by them."""
    read, said = {}, {}
    for place, target in TARGETS.items():
        if tables := getattr(job, f"{place}_verdicts"):
            if len(tables) != len(job.completions):
                raise JobError(f"{len(tables)} tables of verdicts for {len(job.completions)} files of completions")
            read[f"{place}_verdicts"] = [tables[number]]
            with explained(of=tables[number]):
                said[place] = Said.of(read_table(tables[number]), rows, target, job.params["models"][place])
    return read, said


if __name__ == "__main__":
    main()
