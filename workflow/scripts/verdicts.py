"""A judge that is a model on completions: its verdicts, without any text. They decide what configuration `judges` lets
them decide (judge.py), and are compared (judge_agreement.py).

--model: folder of the judge; --base: of the model that it is an adapter of; --template, --contextual-template (rows
with a context): its wording. --completions and --verdicts come in the same order. --params: name, kind, says, reads,
clip, max_length, max_new_tokens, unread (of judges.models), device, dtype, threads, grow_batches, batch_size.
"""

from _gpu import batch_size, share
from _job import Job, JobError, explained

from safety_geometry.artefacts.completions import read_completions
from safety_geometry.artefacts.text_files import text_of
from safety_geometry.judges.model_judge import ModelJudge, Verdict, load_judge
from safety_geometry.judges.verdicts import contexts_of, verdict_rows
from safety_geometry.models.loading import configure

TEMPLATES = ("template", "contextual_template")


def main() -> None:
    job = Job(
        __doc__, inputs=["completions*", "model", "base?", *(f"{name}?" for name in TEMPLATES)], outputs=["verdicts*"]
    )
    if not job.completions or len(job.completions) != len(job.verdicts):
        raise JobError(f"{len(job.verdicts)} outputs for {len(job.completions)} files of completions; one for each")
    rows = {path: read_completions(path) for path in job.completions}
    settings = dict(job.params)
    name, kind, where = settings.pop("name"), settings.pop("kind"), [settings.pop(key) for key in ("device", "dtype")]
    configure(settings.pop("threads"))
    share(job, {"device": where[0], "grow_batches": settings.pop("grow_batches")})
    size = batch_size(job, f"{name}'s prompts", settings.pop("batch_size"))
    settings["says"] = {target: Verdict(**verdict) for target, verdict in settings["says"].items()}
    settings |= {part: text_of(path) for part in TEMPLATES if (path := getattr(job, part)) is not None}
    contexts = contexts_of([row for of_file in rows.values() for row in of_file])
    with explained(ValueError, of=f"judges.models.{name}"):
        model, tokenizer = load_judge(kind, job.model, job.base, *where)
        judge = ModelJudge(name, kind, model, tokenizer, contexts=contexts, batch_size=size, **settings)
    for path, output in zip(job.completions, job.verdicts, strict=True):
        with explained(ValueError, of=f"{path}"):
            table = verdict_rows(judge, rows[path])
        job.part(completions=[path]).write_table(table, output, "verdicts")


if __name__ == "__main__":
    main()
