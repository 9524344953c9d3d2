"""A plain model folder (config, safetensors, tokenizer) from a fetched source: a GGUF file or a Hugging Face folder; or
a LoRA adapter that others made, to be merged into --base when it is loaded.

params: format gguf|folder|adapter, dtype, threads, system. --template: the chat template, instead of what the model
brings; --like: a model that has to be of the same shape and to render conversations alike. What cannot work is refused
here, before any model job.
"""

import json
import sys
from pathlib import Path

from _job import Job, explained
from _model import BAD_INPUT

from safety_geometry.artefacts.integrity import sidecar
from safety_geometry.artefacts.text_files import text_of
from safety_geometry.models.adapter_intake import take_in
from safety_geometry.models.chat import TemplateError
from safety_geometry.models.folders import check_alike
from safety_geometry.models.intake import copy_adapter, make_model
from safety_geometry.models.loading import configure


def main() -> None:
    job = Job(__doc__, inputs=["source", "base?", "template?", "like?"], outputs=["folder"])
    params, system = job.params, job.params["system"]
    configure(params["threads"])
    where = f"{job.folder.parent.name}/{job.folder.name} from source {job.source.name}"
    template = text_of(job.template) if job.template else None
    hint = "; chat_template in the configuration names a file to use instead"
    with (
        job.publish(job.folder) as scratch,
        explained(*BAD_INPUT, of=where),
        explained(TemplateError, of=where, fix=hint),
    ):
        if params["format"] == "adapter":
            copy_adapter(job.source, scratch)
            for changed in take_in(scratch, job.base, system, template_was_given(job.base)):
                print(f"{job.folder.name}: {changed}", file=sys.stderr)
        else:
            make_model(job.source, scratch, params["format"], params["dtype"], system, template)
        if job.like:
            check_alike(job.base if params["format"] == "adapter" else scratch, job.like, system)


def template_was_given(base: Path) -> bool:
    """Whether the configuration names the template of a model folder that this script made."""
    beside = sidecar(base)
    made_of = json.loads(beside.read_text(encoding="utf-8"))["inputs"] if beside.exists() else {}
    return any(name.startswith("template/") for name in made_of)


if __name__ == "__main__":
    main()
