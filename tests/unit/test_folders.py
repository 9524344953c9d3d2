"""What is refused when a folder that others made comes in, and what a template or a link does to it."""

import json
import shutil
import sys

import convert_model
import pytest
import torch
from _job import JobError
from conftest import TEMPLATE, make_model, make_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_adapters import save_adapter

from safety_geometry.models.chat import ZEPHYR, ChatFormat
from safety_geometry.models.folders import (
    check_adapter_folder,
    check_alike,
    check_model_folder,
    tensor_shapes,
    use_template,
)
from safety_geometry.models.loading import ModelError, load_model, save_plain
from safety_geometry.models.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A good model folder (its head is a matrix of its own), one with a tied head, and an adapter of the first."""
    root = tmp_path_factory.mktemp("made")
    save_plain(make_model(), make_tokenizer(), root / "model")
    save_plain(make_model(tie_word_embeddings=True), make_tokenizer(), root / "tied")
    save_adapter(root / "adapter", 1)
    return root


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "model", tmp_path / "model")


def edit(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_good_folders(made):
    check_model_folder(made / "model")
    check_model_folder(made / "tied")
    check_adapter_folder(made / "adapter", made / "model")
    shapes = tensor_shapes(made / "model")
    assert shapes["lm_head.weight"] == shapes["model.embed_tokens.weight"]
    assert "lm_head.weight" not in tensor_shapes(made / "tied")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json: it is not a model folder"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: edit(f / "config.json", model_type="gpt2"), "model type 'gpt2' is not supported; supported are llama"),
        (lambda f: edit(f / "config.json", quantization_config={"bits": 4}), "quantised"),
        (lambda f: edit(f / "config.json", use_bidirectional_attention=True), "no causal language model"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), r"no \*.safetensors \(pickled"),
        (lambda f: (f / "model.safetensors").write_bytes(b"version https"), "cannot be read as safetensors"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}'), "model-2.safetensors is missing"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "format: adapter"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "tokenizer cannot be read"),
        (lambda f: edit(f / "config.json", vocab_size=100), "do not belong together"),
    ],
)  # fmt: skip
def test_a_model_folder_that_cannot_be_used(folder, change, message):
    change(folder)
    with pytest.raises(ModelError, match=message):
        check_model_folder(folder)


def test_weights_that_are_missing_are_not_drawn(folder):
    """Hugging Face would fill them with random numbers."""
    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if k != "lm_head.weight"}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lm_head.weight is not among its weights \(1 such\)"):
        load_model(folder)
    edit(folder / "config.json", tie_word_embeddings=True)  # a tied head is not missing
    loaded = load_model(folder)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_a_tied_and_an_untied_head_survive_a_round_trip(made):
    for name in ("model", "tied"):
        loaded = load_model(made / name)
        assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == (name == "tied")
        torch.testing.assert_close(loaded.lm_head.weight, make_model(tie_word_embeddings=name == "tied").lm_head.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), "not a folder of a peft adapter"),
        (lambda f: edit(f / "adapter_config.json", peft_type="IA3"), "of type IA3; LoRA alone"),
        (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "pickled"),
    ],
)
def test_an_adapter_that_cannot_be_used(made, tmp_path, change, message):
    folder = shutil.copytree(made / "adapter", tmp_path / "adapter")
    change(folder)
    with pytest.raises(ModelError, match=message):
        check_adapter_folder(folder, made / "model")


def test_an_adapter_of_another_model(made, tmp_path):
    save_plain(make_model(hidden=40), make_tokenizer(), tmp_path / "wide")
    with pytest.raises(ModelError, match=r"[oq]_proj.weight of width 32, which is 40 in its base"):
        check_adapter_folder(made / "adapter", tmp_path / "wide")
    save_plain(make_model(layers=2), make_tokenizer(), tmp_path / "short")
    with pytest.raises(ModelError, match=r"layers.2.self_attn.\w+.weight, which its base does not have"):
        check_adapter_folder(made / "adapter", tmp_path / "short")


@pytest.mark.parametrize("part", ["embed_tokens", "lm_head"])
def test_an_adapter_of_the_head_that_is_the_embedding_too(made, tmp_path, part):
    """Merged, it would change both."""
    config = LoraConfig(r=4, target_modules=["q_proj", part], task_type="CAUSAL_LM")
    for tied in (False, True):
        lora = get_peft_model(make_model(tie_word_embeddings=tied), config)
        lora.save_pretrained(tmp_path / str(tied), save_embedding_layers=False)
    with pytest.raises(ModelError, match="one matrix in its base"):
        check_adapter_folder(tmp_path / "True", made / "tied")
    if part == "lm_head":
        check_adapter_folder(tmp_path / "False", made / "model")


# ---------------------------------------------------------------------------------------------- templates and trajectories


def test_a_template_of_the_users(made, folder):
    other = TEMPLATE.replace("helpful", "kind")
    use_template(folder, other)
    assert load_tokenizer(folder).chat_template == other
    assert load_tokenizer(made / "model").chat_template == TEMPLATE
    edit(folder / "tokenizer_config.json", chat_template=TEMPLATE)  # where older folders have it
    use_template(folder, other)
    assert ChatFormat(load_tokenizer(folder)).template == other


def test_steps_that_can_be_set_side_by_side(made, folder, tmp_path):
    check_alike(folder, made / "model")
    check_alike(made / "tied", made / "model")
    save_plain(make_model(layers=2), make_tokenizer(), tmp_path / "short")
    with pytest.raises(ModelError, match="num_hidden_layers is 2, and 4 at the first step"):
        check_alike(tmp_path / "short", made / "model")
    save_plain(make_model(), make_tokenizer("merging"), tmp_path / "tokens")
    with pytest.raises(ModelError, match="other tokens than the first step's"):
        check_alike(tmp_path / "tokens", made / "model")
    use_template(folder, "{# as saved by another version #}" + TEMPLATE)
    assert ChatFormat(load_tokenizer(folder)).digest != ChatFormat(load_tokenizer(made / "model")).digest
    check_alike(folder, made / "model")  # written otherwise, and renders the same
    use_template(folder, TEMPLATE.replace("helpful", "kind"))
    with pytest.raises(ModelError, match="otherwise than the first step: give one chat_template"):
        check_alike(folder, made / "model")
    assert (
        ChatFormat(load_tokenizer(folder), "One line").digest
        != ChatFormat(load_tokenizer(made / "model"), "One line").digest
    )


def test_a_base_without_a_template_beside_one_with(made, tmp_path):
    save_plain(make_model(), make_tokenizer(template=None), tmp_path / "base")
    assert ChatFormat(load_tokenizer(tmp_path / "base")).template == ZEPHYR
    with pytest.raises(
        ModelError, match=r"the first step has no template, and Zephyr's stands in\): give one chat_template"
    ):
        check_alike(made / "model", tmp_path / "base")
    use_template(tmp_path / "base", TEMPLATE)
    check_alike(made / "model", tmp_path / "base")


# ------------------------------------------------------------------------------------------------------- the rule's script

PARAMS = {"format": "folder", "dtype": "float32", "threads": 1, "system": None}


def convert(monkeypatch, params=PARAMS, **files) -> None:
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    monkeypatch.setattr(sys, "argv", ["convert_model.py", *words, "--params", json.dumps(params)])
    convert_model.main()


def test_a_folder_is_linked_and_its_template_replaced(made, tmp_path, monkeypatch):
    (tmp_path / "t.jinja").write_text(other := TEMPLATE.replace("helpful", "kind"))
    source = shutil.copytree(made / "model", tmp_path / "source")
    (source / "training_args.bin").write_bytes(b"a pickle")
    (source / ".snakemake_timestamp").touch()
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    convert(monkeypatch, source=source, template=tmp_path / "t.jinja", folder=tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").samefile(source / "model.safetensors")
    assert load_tokenizer(tmp_path / "out").chat_template == other
    assert {p.name: p.read_bytes() for p in source.iterdir()} == before
    assert before.keys() - {p.name for p in (tmp_path / "out").iterdir()} == {
        "training_args.bin",
        ".snakemake_timestamp",
    }


def test_what_the_user_linked_stays_linked(made, tmp_path, monkeypatch):
    (tmp_path / "source/inner").mkdir(parents=True)
    for path in (made / "model").iterdir():
        (tmp_path / "source/inner" / path.name).symlink_to(path)
    convert(monkeypatch, source=tmp_path / "source", folder=tmp_path / "out")
    weights = tmp_path / "out/model.safetensors"
    assert weights.is_symlink() and weights.resolve() == (made / "model/model.safetensors").resolve()


def test_an_adapter_and_what_it_is_put_on(made, tmp_path, monkeypatch):
    convert(
        monkeypatch,
        PARAMS | {"format": "adapter"},
        source=made / "adapter",
        base=made / "model",
        folder=tmp_path / "out",
    )
    merged, wanted = (load_model(made / "model", adapter=path) for path in (tmp_path / "out", made / "adapter"))
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), wanted.parameters(), strict=True))
    with pytest.raises(JobError, match="step3 from source adapter: the adapter changes"):
        save_plain(make_model(layers=2), make_tokenizer(), tmp_path / "short")
        convert(
            monkeypatch,
            PARAMS | {"format": "adapter"},
            source=made / "adapter",
            base=tmp_path / "short",
            folder=tmp_path / "step3",
        )


def test_messages_name_the_key(made, tmp_path, monkeypatch):
    save_plain(make_model(), make_tokenizer(template="{{ 'hello' }}"), tmp_path / "odd")
    with pytest.raises(JobError, match="exactly once; chat_template in the configuration names a file"):
        convert(monkeypatch, source=tmp_path / "odd", folder=tmp_path / "out")
    template = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ m['content'] }}{% endfor %}."
    save_plain(make_model(), make_tokenizer(template=template), tmp_path / "strict")
    with pytest.raises(JobError, match=r"no system role.*set model.system to null"):
        convert(monkeypatch, PARAMS | {"system": "Be kind"}, source=tmp_path / "strict", folder=tmp_path / "out")
    with pytest.raises(JobError, match="trajectory of its own"):
        save_plain(make_model(layers=2), make_tokenizer(), tmp_path / "short")
        convert(monkeypatch, source=tmp_path / "short", like=made / "model", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()
