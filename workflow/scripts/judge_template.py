"""The published wording of a judge's prompt, taken out of a fetched file.

params: name (where the configuration has it), file (below --source), at (keys), fields (renamed), sha256 (of the
wording).
"""

from pathlib import Path

from _job import Job, JobError, explained

from safety_geometry.artefacts.text_files import text_of
from safety_geometry.judges.templates import TemplateFileError, template_in


def main() -> None:
    job = Job(__doc__, inputs=["source"], outputs=["template"])
    params, file = job.params, job.source / job.params["file"]
    if not file.is_file():
        where = f"{params['name']}.file: the source has no file {params['file']}"
        raise JobError(f"{where}; correct it, or the source's members")
    with explained(TemplateFileError, of=params["name"]):
        text = template_in(text_of(file), file.name, params["at"], params.get("fields"), params.get("sha256"))
    job.write(job.template, Path.write_text, text, encoding="utf-8")


if __name__ == "__main__":
    main()
