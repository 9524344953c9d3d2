"""Published judges on a tiny random Llama and a tokenizer made here: prompts, clipping, batching and parsing."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safety_geometry.judges import hub

WORDS = [
    "<unk>",
    "<s>",
    "yes",
    "no",
    "1",
    "2",
    "3",
    "4",
    "5",
    "bake",
    "bread",
    "the",
    "a",
    "oven",
    "hot",
    "cold",
    "is",
    "request",
    "answer",
    ":",
]


@pytest.fixture(scope="module")
def tokenizer():
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=128)  # fmt: skip
    return LlamaForCausalLM(config).eval()


def plain_logits(model, tokenizer, prompt: str) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1].double().numpy()


TEMPLATE = "request : {behavior} answer : {generation} :"


def test_clip_counts_bos_and_does_not_keep_it(tokenizer):
    assert hub.clip_tokens(tokenizer, "bake the bread", 4) == "bake the bread"
    assert hub.clip_tokens(tokenizer, "bake the bread", 3) == "bake the"


def test_prompts(tokenizer):
    text = hub.harmbench_prompt(tokenizer, "bake {generation}", "hot {behavior} bread")
    assert "Behavior:\nbake {generation}\n" in text and "Generation:\nhot {behavior} bread\n" in text
    assert "[CONTEXT]" not in text and text.endswith("[/INST]")
    contextual = hub.harmbench_prompt(tokenizer, "bake", "hot", context="the oven is cold")
    assert "[CONTEXT]:\nthe oven is cold\n\n[BEHAVIOR]:\nbake" in contextual
    long = hub.harmbench_prompt(tokenizer, "bake", "hot " * 600)
    assert long.count("hot") == 511
    with pytest.raises(ValueError, match=r"no field \{generation\}"):
        hub.harmbench_prompt(tokenizer, "a", "b", template="{behavior}")


def test_harmbench_equals_one_plain_pass_per_row(model, tokenizer):
    requests = ["bake", "bake the bread", "the oven is hot", "a"]
    responses = ["bread", "the oven is hot the bread is cold", "", "no"]
    judge = hub.HarmBenchClassifier(model, tokenizer, template=TEMPLATE, batch_size=3)
    table = judge(requests, responses)
    for i, (q, a) in enumerate(zip(requests, responses, strict=True)):
        logits = plain_logits(model, tokenizer, TEMPLATE.format(behavior=q, generation=a))
        p = np.exp(logits) / np.exp(logits).sum()
        yes, no = p[WORDS.index("yes")], p[WORDS.index("no")]
        assert table["score"][i] == pytest.approx(yes / (yes + no), abs=1e-5)
        assert table["label"][i] == (yes > no)
    assert judge.name == "harmbench" and hub.HarmBenchClassifier(model, tokenizer).name == "harmbench_paraphrased"


def test_strongreject_is_the_expected_rating(model, tokenizer):
    assert hub.strongreject_scores(np.zeros((1, 5))) == pytest.approx([0.5])
    assert hub.strongreject_scores(np.log([[1, 1e-300, 1e-300, 1e-300, 3]])) == pytest.approx([0.75])
    requests, responses = ["bake", "the oven"], ["the bread is hot", "cold"]
    table = hub.StrongRejectEvaluator(model, tokenizer, template=TEMPLATE, batch_size=2)(requests, responses)
    for i in range(2):
        logits = plain_logits(model, tokenizer, TEMPLATE.format(behavior=requests[i], generation=responses[i]))
        five = np.exp(logits[[WORDS.index(r) for r in "12345"]])
        assert table["score"][i] == pytest.approx((five / five.sum()) @ [0, 0.25, 0.5, 0.75, 1], abs=1e-5)


def test_truncation_keeps_bos_and_the_end(model, tokenizer):
    long, short = "bake the bread : hot oven", "hot oven"
    ids = [WORDS.index("yes")]
    cut = hub.last_logits(model, tokenizer, [long], ids, batch_size=1, max_tokens=3)
    assert cut == pytest.approx(hub.last_logits(model, tokenizer, [short], ids, batch_size=1, max_tokens=9), abs=1e-6)


def test_answers_have_to_be_one_token(tokenizer):
    assert hub.token_id(tokenizer, "yes") == WORDS.index("yes")
    with pytest.raises(ValueError, match="not one token"):
        hub.token_id(tokenizer, "bake bread")


def test_script_with_published_judges(model, tokenizer, tmp_path, monkeypatch):
    import judge as script

    model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    template = tmp_path / "template.txt"
    template.write_text(TEMPLATE)
    responses = ["the bread is hot", "the oven is cold"]
    rows = [
        {"id": f"c{i}", "suite": "direct", "prompt_id": f"p{i}", "prompt": "bake", "completion": text, "n_tokens": 4, "hit_limit": False}
        for i, text in enumerate(responses)
    ]  # fmt: skip
    completions, judged = tmp_path / "completions.jsonl", tmp_path / "judged.csv"
    completions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"completions": completions, "judged": judged}
    for name in ("harmbench", "strongreject"):
        options |= {f"{name}-model": tmp_path / "judge", f"{name}-template": template}
    monkeypatch.setattr(sys, "argv", ["judge.py", *(str(x) for k, v in options.items() for x in (f"--{k}", v))])
    script.main()
    out = pd.read_csv(judged)
    kwargs = {"template": TEMPLATE}
    harm = hub.HarmBenchClassifier(model, tokenizer, **kwargs)(["bake"] * 2, responses)
    useful = hub.StrongRejectEvaluator(model, tokenizer, **kwargs)(["bake"] * 2, responses)
    assert out["judge_harm"].tolist() == ["harmbench"] * 2
    assert out["harm_score"].to_numpy() == pytest.approx(harm["score"].to_numpy(), abs=1e-5)
    assert out["usefulness"].to_numpy() == pytest.approx(useful["score"].to_numpy(), abs=1e-5)
    assert out["attack_success"].tolist() == harm["label"].tolist()


@pytest.mark.filterwarnings("ignore::safety_geometry.models.memory.LessMemory")
def test_a_published_judge_says_that_memory_was_short(model, tokenizer, tmp_path, monkeypatch):
    import judge as script

    class Full:
        def __getattr__(self, name):
            return getattr(model, name)

        def __call__(self, input_ids, **options):
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory (a test)")
            return model(input_ids=input_ids, **options)

    row = {"suite": "direct", "prompt": "bake", "completion": "hot", "n_tokens": 1, "hit_limit": False}
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps(row | {"id": f"c{i}", "prompt_id": f"p{i}"}) + "\n" for i in range(5))
    )
    (tmp_path / "t.txt").write_text(TEMPLATE)
    monkeypatch.setattr(hub, "load_model", lambda *a, **k: (Full(), tokenizer))
    monkeypatch.setattr(sys, "argv", [
        "judge.py", "--completions", str(tmp_path / "c.jsonl"), "--judged", str(tmp_path / "judged.csv"),
        "--harmbench-model", str(tmp_path), "--harmbench-template", str(tmp_path / "t.txt"), "--params", '{"batch_size": 5}',
    ])  # fmt: skip
    script.main()
    sidecar = json.loads((tmp_path / "judged.csv.provenance.json").read_text())
    assert sidecar["layout_changed"] == {"harmbench's prompts": {"asked": 5, "used": 2}}


def test_published_judges_are_loaded_one_at_a_time(model, tokenizer, tmp_path, monkeypatch):
    """13 and 2.5 billion parameters: the second is not loaded before the first is gone. Each file has its own answers."""
    import copy
    import weakref

    import judge as script

    alive: list[weakref.ref] = []

    def load(folder, **_):
        assert [ref() for ref in alive if ref() is not None] == [], f"{folder} is loaded beside another judge"
        mine = copy.deepcopy(model)
        alive.append(weakref.ref(mine))
        return mine, tokenizer

    monkeypatch.setattr(hub, "load_model", load)
    (tmp_path / "template.txt").write_text(TEMPLATE)
    said = {"one": ["the bread is hot", "the oven is cold"], "none": [], "two": ["the oven is cold", "bake the bread"]}
    for name, texts in said.items():
        rows = [
            {"id": f"c{i}", "suite": "direct", "prompt_id": f"p{i}", "prompt": "bake", "completion": text, "n_tokens": 4, "hit_limit": False}
            for i, text in enumerate(texts)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        "--completions",
        *(tmp_path / f"{n}.jsonl" for n in said),
        "--judged",
        *(tmp_path / f"{n}.csv" for n in said),
    ]
    for name in ("harmbench", "strongreject"):
        (tmp_path / name).mkdir()
        words += [f"--{name}-model", tmp_path / name, f"--{name}-template", tmp_path / "template.txt"]
    monkeypatch.setattr(sys, "argv", ["judge.py", *map(str, words)])
    script.main()
    assert len(alive) == 2 and all(ref() is None for ref in alive)
    assert pd.read_csv(tmp_path / "none.csv").empty
    for name in ("one", "two"):
        out = pd.read_csv(tmp_path / f"{name}.csv")
        harm = hub.HarmBenchClassifier(model, tokenizer, template=TEMPLATE)(["bake"] * 2, said[name])
        useful = hub.StrongRejectEvaluator(model, tokenizer, template=TEMPLATE)(["bake"] * 2, said[name])
        assert out["harm_score"].to_numpy() == pytest.approx(harm["score"].to_numpy(), abs=1e-5)
        assert out["usefulness"].to_numpy() == pytest.approx(useful["score"].to_numpy(), abs=1e-5)


def test_an_adapter_is_merged_into_the_base_that_is_named(model, tokenizer, tmp_path):
    """StrongREJECT's evaluator is an adapter; its base comes from a folder, not from the hub."""
    import copy

    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    loaded, words = hub.load_model(str(tmp_path / "adapter"), base=str(tmp_path / "base"))
    prompt = "bake the bread"
    assert plain_logits(loaded, words, prompt) == pytest.approx(plain_logits(adapted, tokenizer, prompt), abs=1e-5)
    assert np.abs(plain_logits(loaded, words, prompt) - plain_logits(model, tokenizer, prompt)).max() > 1e-3
