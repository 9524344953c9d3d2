"""The language model in a multimodal checkpoint, as a plain model folder of its own."""

import json
import re
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from safety_geometry.models.configuration import ModelError, check_sizes, first_line, read_json
from safety_geometry.models.families import MULTIMODAL
from safety_geometry.models.folders import weight_files

INDEX = "model.safetensors.index.json"
LARGEST = 2**28  # bytes of a file that is written; memory holds one, twice
# Files of the hub and of transformers 4 have the first form of each, transformers 5 may write the second.
TEXT = re.compile(r"^(?:language_model\.model\.|model\.language_model\.)")
HEAD = re.compile(r"^(?:language_model\.)?lm_head\.")
OTHERS = re.compile(r"^(?:model\.)?(?:vision_tower|multi_modal_projector)\.")
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def take_text_part(folder: Path) -> bool:
    """Make a model folder of a multimodal checkpoint one of its language model; whether it was multimodal.

    Weights keep their numbers and dtype, in files of a quarter of a gigabyte, or of one tensor. Files are replaced, not
    written into: they may be hard links. What is no weight of text or pictures keeps its name, for `check_weights` to
    refuse.

    Raises:
        ModelError: it has no `text_config`, or one that cannot be read.
    """
    config = folder / "config.json"
    outer = read_json(config, "") if config.exists() else {}
    if outer.get("model_type") not in MULTIMODAL:
        return False
    _rewrite_weights(folder)
    values = _text_config(outer)
    for name in ("config.json", *PROCESSORS):
        (folder / name).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return True


def _text_config(outer: dict) -> dict:
    """config.json of the text part: whole, since that of a multimodal checkpoint leaves out what is usual."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = MULTIMODAL[outer["model_type"]]
    inner = outer.get("text_config")
    if not isinstance(inner, dict):
        raise ModelError(f"config.json ({outer['model_type']}) has no text_config: its language model is not described")
    check_sizes(inner)
    # What Hugging Face reads of the whole model rather than of its text.
    shared = {key: outer[key] for key in ("quantization_config", "dtype", "torch_dtype") if key in outer}
    shared |= {
        key: outer[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if outer.get(key) is not None
    }
    shared["tie_word_embeddings"] = outer.get("tie_word_embeddings", True)
    try:
        settings = AutoConfig.for_model(kind, **{k: v for k, v in (inner | shared).items() if k != "model_type"})
    except Exception as error:  # what a configuration can break in there has no common class
        raise ModelError(f"text_config of config.json cannot be read ({first_line(error)})") from error
    values = json.loads(settings.to_json_string(use_diff=False))
    values.pop("_name_or_path", None)
    return values | {"architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]]}


def _rewrite_weights(folder: Path) -> None:
    sources = weight_files(folder)
    places, held, size, total = {}, {}, 0, 0

    def write() -> None:
        nonlocal held, size
        name = f"text-{len(set(places.values())) + 1:05d}.safetensors"
        save_file(held, folder / name, {"format": "pt"})
        places.update(dict.fromkeys(held, name))
        held, size = {}, 0

    for source in sources:
        with safe_open(source, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if OTHERS.match(name):
                    continue
                tensor = opened.get_tensor(name)
                if held and size + tensor.nbytes > LARGEST:
                    write()
                held[HEAD.sub("lm_head.", TEXT.sub("model.", name))] = tensor
                size, total = size + tensor.nbytes, total + tensor.nbytes
    write()
    for source in folder.glob("*.safetensors"):
        if source.name not in places.values():
            source.unlink()
    (folder / INDEX).unlink(missing_ok=True)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
