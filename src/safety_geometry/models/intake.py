"""Fetched models as plain folders: config, safetensors and tokenizer, with nothing in them that could run."""

import os
import shutil
from pathlib import Path

from safety_geometry.models.configuration import ModelError
from safety_geometry.models.folders import check_model_folder, use_template
from safety_geometry.models.gguf.conversion import convert_gguf
from safety_geometry.models.loading import end_ids
from safety_geometry.models.templates import checked_format
from safety_geometry.models.text_part import take_text_part
from safety_geometry.models.tokenizer import load_tokenizer

# Nothing here reads a pickle. Hidden: Snakemake's time stamp of a folder, which as a hard link would be the source's as
# well.
LEFT_OUT = shutil.ignore_patterns(".*", "*.provenance.json", "*.bin", "*.pt", "*.pth")


def make_model(
    source: Path, folder: Path, form: str, dtype: str, system: str | None, template: str | None = None
) -> None:
    """A model folder from a fetched `source`, a GGUF file (`form` gguf) or a Hugging Face folder; `template`: of its
    chats, instead of what the model brings. Of a multimodal model it is the text part.

    Raises:
        ModelError, TemplateError, UnsupportedModel: it could not be used.
    """
    if form == "gguf":
        folder.mkdir()
        convert_gguf(_only_file(source, "*.gguf"), folder, dtype)
    else:
        shutil.copytree(_inner(source, "config.json"), folder, ignore=LEFT_OUT, copy_function=_linked)
        take_text_part(folder)
    if template is not None:
        use_template(folder, template)
    check_model_folder(folder)
    checked_format(load_tokenizer(folder), system, end_ids(folder))


def copy_adapter(source: Path, folder: Path) -> None:
    """The adapter of a fetched source, as it is."""
    shutil.copytree(_inner(source, "adapter_config.json"), folder, ignore=LEFT_OUT)


def _inner(folder: Path, name: str) -> Path:
    """Where file `name` stands: in the folder itself, or alone in one below it."""
    folders = [] if (folder / name).exists() else sorted(path.parent for path in folder.rglob(name))
    return folders[0] if len(folders) == 1 else folder


def _linked(source: str, target: str) -> None:
    """A hard link, for gigabytes that are there already; a copy where there can be none, and of what is not the study's
    own."""
    try:
        if Path(source).is_symlink():
            os.symlink(Path(source).resolve(), target)
        else:
            os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _only_file(folder: Path, pattern: str) -> Path:
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        raise ModelError(
            f"{folder} has {len(files)} files {pattern}; exactly one is needed (narrow the source's members)"
        )
    return files[0]
