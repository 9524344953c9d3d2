"""A plain model folder (config, safetensors, tokenizer) from a fetched source: a GGUF file or a Hugging Face folder.

params: format gguf|folder, dtype, model {threads, device, system}. The chat template is checked here, before any model job.
"""

import shutil
from pathlib import Path

from _job import Job, JobError
from _model import BAD_INPUT

from safety_geometry.chat import ChatFormat
from safety_geometry.models import configure, convert_gguf, load_tokenizer


def main() -> None:
    job = Job(__doc__, inputs=["source"], outputs=["folder"])
    configure(job.params["threads"])
    with job.publish(job.folder) as scratch:
        try:
            if job.params["format"] == "gguf":
                scratch.mkdir()
                convert_gguf(only_file(job.source, "*.gguf"), scratch, job.params["dtype"])
            else:
                shutil.copytree(job.source, scratch, ignore=shutil.ignore_patterns("*.provenance.json"))
            ChatFormat(load_tokenizer(scratch), job.params["system"])
        except BAD_INPUT as error:
            raise JobError(f"base model: {error}") from error


def only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise JobError(
            f"{folder} has {len(found)} files {pattern}; exactly one is needed (narrow the source's members)"
        )
    return found[0]


if __name__ == "__main__":
    main()
