"""Direct requests within human jailbreak templates, as they are: no search, no model.

--templates are those of AutoDAN's seeds, of which the first params.framings are taken. Rows go to --attacks (private),
request by request; `arm` is the id of the template.
"""

from _job import Job, explained

from safety_geometry.artefacts.attacks import attack
from safety_geometry.artefacts.jsonl import read_jsonl
from safety_geometry.artefacts.prompts import read_behaviours
from safety_geometry.attacks.autodan.mutation import check_template, fill


def main() -> None:
    job = Job(__doc__, inputs=["requests", "templates"], outputs=["attacks"])
    templates = read_jsonl(job.templates, ["id", "text"])[: job.params["framings"]]
    with explained(ValueError, of=job.templates):
        for template in templates:
            check_template(template["text"], f"template {template['id']}")
    asked = read_behaviours(job.requests)
    rows = [attack(row, t["id"], fill(t["text"], row["prompt"])) for row in asked for t in templates]
    job.write_jsonl(rows, job.attacks)


if __name__ == "__main__":
    main()
