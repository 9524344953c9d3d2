"""Sentence embeddings against transformers' own states, judges that are trained on them, and what breaks them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from test_judges_combined import role_of, run  # noqa: F401  (run: a fixture)
from test_judges_ordering import labelled as in_files
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from safety_geometry.artefacts.errors import ArtefactError
from safety_geometry.artefacts.tables.files import read_table
from safety_geometry.artefacts.tables.working import JUDGED
from safety_geometry.judges import trained
from safety_geometry.judges.embeddings import BLOCKS, FILES, MAX_TOKENS, SentenceEmbedder, pair_features
from safety_geometry.judges.judging import trained_judge
from safety_geometry.judges.training import train_harm

ROOT = Path(__file__).parents[2]
WORDS = [
    "bake",
    "bread",
    "castle",
    "river",
    "stone",
    "water",
    "flour",
    "oven",
    "slowly",
    "build",
    "a",
    "the",
    "of",
    "with",
    "and",
]


def save_embedder(folder: Path, seed: int = 0) -> Path:
    """A tiny random BERT and its tokenizer of whole words."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=300, **size)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_embedder(tmp_path_factory.mktemp("embedder"))


TEXTS = [
    "Bake a bread",
    "the river",
    "",
    "stone " * 400,
    "build the castle of stone with water and flour slowly",
    "the river",
]


def test_embeddings_are_the_normalised_means_of_the_last_hidden_states(folder):
    """Reference: each text by itself, without padding or mask."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        ids = ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], tokenizer.sep_token_id]
        with torch.no_grad():
            mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0).double().numpy()
        expected.append(mean / np.linalg.norm(mean))
    embed = SentenceEmbedder(folder)
    np.testing.assert_allclose(embed(TEXTS), expected, atol=1e-6)
    np.testing.assert_array_equal(embed(TEXTS[:2]), embed(TEXTS)[:2])
    assert embed.digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_pairs_by_hand():
    class Table:
        digest = "x"

        def __call__(self, texts):
            return np.array([{"q": [0.6, 0.8], "a": [1.0, 0.0]}[text] for text in texts])

    row = pair_features(Table(), ["q"], ["a"], BLOCKS)[0]
    assert row == pytest.approx([0.6, 0.8, 1, 0, 0.4, 0.8, 2**0.5 * 0.6, 0])
    assert pair_features(Table(), ["q"], ["a"], ["answer"]).tolist() == [[1, 0]]
    with pytest.raises(KeyError):
        pair_features(Table(), ["q"], ["a"], ["sum"])


def labelled(n: int = 24) -> pd.DataFrame:
    """Answers that fit their request or another one, in as many words alike: only the pair tells."""
    topics = [
        ("bake bread with flour", "the oven and the flour slowly bake"),
        ("build a castle of stone", "stone and stone of the castle"),
    ]
    rows = []
    for i in range(n):
        fits = i % 2 == 0
        (request, answer), other = topics[i // 2 % 2], topics[1 - i // 2 % 2]
        rows.append(
            {"request": f"{request} {'slowly ' * (i // 4)}", "response": answer if fits else other[1], "label": fits}
        )
    return pd.DataFrame(rows)


def test_a_judge_of_embeddings_sees_whether_an_answer_is_to_its_request(folder):
    frame, embed = labelled(), SentenceEmbedder(folder)
    columns = (frame["request"], frame["response"], frame["label"])
    settings = trained.Settings(words=False, features=(), embeddings=("product",), inverse_penalty=1000.0)
    model = trained.fit(*columns, settings, embed)
    assert ((model.probability(*columns[:2], embed) > 0.5) == frame["label"]).all()
    words = trained.fit(*columns, trained.Settings(features=()))
    assert np.allclose(words.probability(*columns[:2]), 0.5, atol=0.01)
    again = trained.TrainedModel.from_dict(json.loads(json.dumps(model.to_dict())))
    np.testing.assert_array_equal(again.probability(*columns[:2], embed), model.probability(*columns[:2], embed))


def test_a_trained_judge_asks_for_the_embeddings_that_it_was_trained_on(folder, tmp_path):
    frame, embed = in_files(telling=True, n=36), SentenceEmbedder(folder)
    judges = train_harm(frame, "toy", n_folds=2, embed=embed)
    file = tmp_path / "harm.json"
    file.write_text(json.dumps(judges.to_dict()))
    judge = trained_judge(file, "harm", "harm_trained", embed)
    assert len(judge(frame["request"].tolist(), frame["response"].tolist())) == len(frame)
    for other in (SentenceEmbedder(save_embedder(tmp_path / "other", seed=1)), None):
        with pytest.raises(
            ArtefactError, match=r"harm\.json: no trained judge 'harm' .*(train it anew|needs their model)"
        ):
            trained_judge(file, "harm", "harm_trained", other)
    value = judges.models["harm"].to_dict()
    with pytest.raises(ValueError, match="different lengths"):
        trained.TrainedModel.from_dict({**value, "coefficients": value["coefficients"][:-1]})
    with pytest.raises(ValueError, match="do not go together"):
        trained.TrainedModel.from_dict({**value, "embedder": ""})
    with pytest.raises(ValueError, match="format"):
        trained.TrainedModel.from_dict({**value, "format": "safety-geometry judge 1"})


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_a_file_says_which(folder, tmp_path, name):
    for file in folder.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtefactError, match=f"needs {name}; correct judges.embeddings.folder"):
        SentenceEmbedder(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_one_plain_error(folder, tmp_path, name):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 20 if file.name == name else None])
    with pytest.raises(
        ArtefactError, match=r"no sentence-embedding model that transformers can load .*fetch its source"
    ):
        SentenceEmbedder(tmp_path)(["the river"])


def test_the_default_study_pins_its_model():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    spec = config["judges"]["embeddings"]
    source = config["sources"][spec["source"]]
    members = {m["path"] if isinstance(m, dict) else m: m for m in source["members"]}
    assert {f"{spec['folder']}/{name}" for name in FILES} <= set(members)
    weights = members[f"{spec['folder']}/model.safetensors"]["sha256"]
    assert source["kind"] == "package" and all(len(sha) == 64 for sha in (source["sha256"], weights))


def test_scripts_with_embeddings(folder, tmp_path, run):  # noqa: F811
    """From labels to judged answers; the same judge without its embeddings is an error that says what to do."""
    frame = in_files(telling=True, n=36)
    data, role = tmp_path / "labels", role_of(tmp_path, frame["request"].tolist())
    data.mkdir()
    source = tmp_path / "source"
    shutil.copytree(folder, source / "model")
    for name, part in frame.groupby("dataset"):
        rows = part[["request", "response"]].assign(
            refusal=part["response"].str.startswith("Sorry"), harm=part["label"]
        )
        rows.assign(severity=rows["harm"]).to_json(data / f"{name}.jsonl", orient="records", lines=True)
    paths = {name: tmp_path / f"{name}.json" for name in ("refusal", "harm")}
    params = {f"{kind}_files": ["*.jsonl"] for kind in ("refusal", "harm", "severity")}
    params |= {"n_folds": 2, "embeddings_folder": "model"}
    labels = [word for kind in ("refusal", "harm", "severity") for word in (f"--{kind}-labels", data)]
    run("train_judges", *labels, "--judge-train", role, "--embeddings", source, "--refusal", paths["refusal"],
        "--harm", paths["harm"], "--table", tmp_path / "judges.csv", "--params", json.dumps(params))  # fmt: skip
    artefact = json.loads(paths["harm"].read_text())
    assert artefact["harm"]["embedder"] == SentenceEmbedder(folder).digest and "embedder" in artefact["harm"]
    table = read_table(tmp_path / "judges.csv")
    assert table["n"].max() == 36 and {"harm_trained", "harm_without_embeddings"} <= set(table["judge"])

    completions, judged = tmp_path / "completions.jsonl", tmp_path / "judged.csv"
    row = {
        "id": "a",
        "suite": "direct",
        "prompt_id": "p",
        "prompt": frame["request"][1],
        "n_tokens": 9,
        "hit_limit": False,
    }
    completions.write_text(json.dumps(row | {"completion": frame["response"][1]}) + "\n")
    asked = ["--completions", completions, "--harm", paths["harm"], "--judged", judged]
    for success, means in (
        ("attack_success", {True: "attack_success", False: "not_refused"}[artefact["orders_answers"]]),
        ("not_refused", "not_refused"),
    ):
        settings = json.dumps({"embeddings_folder": "model", "success": success})
        run("judge", *asked, "--embeddings", source, "--params", settings)
        line = read_table(judged, JUDGED).iloc[0]
        assert line["success_means"] == means and 0 < line["harm_score"] < 1 and line["judge_harm"] == "harm_trained"
    with pytest.raises(ArtefactError, match="needs their model"):
        run("judge", *asked)
