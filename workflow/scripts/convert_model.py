"""A plain model folder (config, safetensors, tokenizer) from a fetched source: a GGUF file or a Hugging Face folder; or a LoRA
adapter that others made, to be merged into --base when it is loaded.

params: format gguf|folder|adapter, dtype, threads, system. --template: the chat template, instead of what the model brings; --like:
a model that has to be of the same shape and to render conversations alike. What cannot work is refused here, before any model job.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from _job import Job, JobError, sidecar
from _model import BAD_INPUT
from _text import text_of

from safety_geometry.adapter_intake import take_in
from safety_geometry.chat import TemplateError
from safety_geometry.folders import check_alike, check_model_folder, use_template
from safety_geometry.gguf_model import convert_gguf
from safety_geometry.models import configure, end_ids, load_tokenizer
from safety_geometry.templates import checked_format

# Nothing here reads a pickle. Hidden: Snakemake's time stamp of a folder, which as a hard link would be the source's as well.
LEFT_OUT = shutil.ignore_patterns(".*", "*.provenance.json", "*.bin", "*.pt", "*.pth")


def main() -> None:
    job = Job(__doc__, inputs=["source", "base?", "template?", "like?"], outputs=["folder"])
    configure(job.params["threads"])
    with job.publish(job.folder) as scratch:
        try:
            model = scratch
            if job.params["format"] == "adapter":
                shutil.copytree(inner(job.source, "adapter_config.json"), scratch, ignore=LEFT_OUT)
                for told in take_in(scratch, job.base, job.params["system"], template_was_given(job.base)):
                    print(f"{job.folder.name}: {told}", file=sys.stderr)
                model = job.base
            else:
                make_model(job, scratch)
            if job.like:
                check_alike(model, job.like, job.params["system"])
        except BAD_INPUT as error:
            hint = "; chat_template in the configuration names a file to use instead" * isinstance(error, TemplateError)
            where = f"{job.folder.parent.name}/{job.folder.name} from source {job.source.name}"
            raise JobError(f"{where}: {error}{hint}") from error


def make_model(job: Job, folder: Path) -> None:
    if job.params["format"] == "gguf":
        folder.mkdir()
        convert_gguf(only_file(job.source, "*.gguf"), folder, job.params["dtype"])
    else:
        shutil.copytree(inner(job.source, "config.json"), folder, ignore=LEFT_OUT, copy_function=linked)
    if job.template:
        use_template(folder, text_of(job.template))
    check_model_folder(folder)
    checked_format(load_tokenizer(folder), job.params["system"], end_ids(folder))


def template_was_given(base: Path) -> bool:
    """Whether the configuration names the template of a model folder that this script made."""
    beside = sidecar(base)
    made_of = json.loads(beside.read_text(encoding="utf-8"))["inputs"] if beside.exists() else {}
    return any(name.startswith("template/") for name in made_of)


def inner(folder: Path, name: str) -> Path:
    """Where file `name` stands: in the folder itself, or alone in one below it."""
    found = [] if (folder / name).exists() else sorted(path.parent for path in folder.rglob(name))
    return found[0] if len(found) == 1 else folder


def linked(source: str, target: str) -> None:
    """A hard link, for gigabytes that are there already; a copy where there can be none, and of what is not the study's own."""
    try:
        if Path(source).is_symlink():
            os.symlink(Path(source).resolve(), target)
        else:
            os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise JobError(
            f"{folder} has {len(found)} files {pattern}; exactly one is needed (narrow the source's members)"
        )
    return found[0]


if __name__ == "__main__":
    main()
