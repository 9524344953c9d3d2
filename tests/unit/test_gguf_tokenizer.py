"""The tokenizer of a GGUF file gives the ids of the tokenizer that the file was made of, for every way of cutting that is known."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
from conftest import make_tokenizer
from gguf_file import close, write_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from safety_geometry.models.gguf.conversion import TEXT, check_rereading
from safety_geometry.models.gguf.header import read_header
from safety_geometry.models.gguf.tokenizer import CUTS
from safety_geometry.models.gguf.tokenizer import make_tokenizer as tokenizer_of
from safety_geometry.models.loading import ModelError

gguf = pytest.importorskip("gguf")

# Cuttings spelled as llama.cpp spells them where it departs from the authors' tokenizer.json.
ENDING = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
LLAMA3 = ENDING + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = ENDING + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HIGH, LOW = r"((?=[\p{L}\p{M}])([^a-z]))", r"((?=[\p{L}\p{M}])([^A-Z]))"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{HIGH}*{LOW}+%s|[^\r\n\p{{L}}\p{{N}}]?{HIGH}+{LOW}*%s|"
TEKKEN, GPT4O = CASED.replace("%s", "") + r"\p{N}" + SIGNS, CASED.replace("%s", ENDING + "?") + r"\p{N}{1,3}" + SIGNS
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CJK = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK3 = (
    r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {
    "gpt-2 phi-2 mpt olmo": [WORDS],
    "smollm starcoder refact command-r": [r"\p{N}", WORDS],
    "llama3 llama-v3 llama-bpe falcon3 pixtral dbrx smaug-bpe": [LLAMA3],
    "qwen2 deepseek-r1-qwen stablelm2": [QWEN2],
    "qwen35": [QWEN35],
    "tekken": [TEKKEN],
    "gpt-4o llama4": [GPT4O],
    "deepseek-llm": [r"[\r\n]", r"\s?[A-Za-zÀ-ÖØ-öø-ƺΑ-Ωα-ω]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CJK, r"\p{N}+"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", "[0-9][0-9][0-9]"],
}  # fmt: skip
EXPECTED = {name: patterns for names, patterns in PATTERNS.items() for name in names.split()}
WHOLE = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken")
SAMPLES = [
    TEXT,
    "In 2024, we've sold 12345 of HelloWorld's\n\n\n  things (50% more);\tWE'LL see...\r\n\r\nfoo/bar//\n$x+=1",
    "Ein Fräulein sagt: „Grüße“ αβγ 中文字 123４５ ½²  x\u0302y n\u0308o  end   ",
    "<|start|>user\nhi 1999<|end|>",
]


@pytest.fixture(scope="module")
def greedy() -> Tokenizer:
    """Merges across all borders, so that only the cutting keeps them apart: another cutting gives other ids."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        decoders.ByteLevel(),
    )
    options = {"vocab_size": 1500, "special_tokens": ["<|pad|>", "<|start|>", "<|end|>"], "show_progress": False}
    lines = [
        line
        for text in SAMPLES[:3]
        for size in (7, 11, 16)
        for line in (text[i : i + size] for i in range(0, len(text), 2))
    ]
    made.train_from_iterator(
        lines * 2, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    )
    return made


def cut(greedy: Tokenizer, patterns: list[str], whole: bool) -> Tokenizer:
    made = Tokenizer.from_str(greedy.to_str())
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.model.ignore_merges = whole
    return made


def header_of(path, made: Tokenizer, pre: str | None, extra=None):
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    writer = gguf.GGUFWriter(str(path), "llama")
    write_tokenizer(writer, SimpleNamespace(backend_tokenizer=made, chat_template=None, **ids), pre)
    if extra:
        extra(writer)
    close(writer)
    return read_header(path)


def test_every_way_of_cutting_is_tested():
    assert EXPECTED.keys() == CUTS.keys()


@pytest.mark.parametrize("pre", EXPECTED)
def test_the_ids_are_those_of_the_tokenizer_that_the_file_was_made_of(tmp_path, greedy, pre):
    made = cut(greedy, EXPECTED[pre], pre in WHOLE)
    got = tokenizer_of(header_of(tmp_path / "t.gguf", made, pre))
    for sample in SAMPLES:
        assert got(sample, add_special_tokens=False).input_ids == made.encode(sample).ids
        assert got.decode(got(sample, add_special_tokens=False).input_ids) == sample
    assert len(got) == made.get_vocab_size() and got.get_vocab() == made.get_vocab()
    assert got("a").input_ids[0] == (1 if pre in WHOLE else got("a", add_special_tokens=False).input_ids[0])
    got.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen2"}), encoding="utf-8"
    )  # transformers rebuilds Qwen 2's
    check_rereading(got, tmp_path)


def test_the_ways_of_cutting_differ(greedy):
    """What the samples cannot tell apart, the test above does not test."""
    seen = [[tuple(cut(greedy, patterns, False).encode(s).ids) for s in SAMPLES] for patterns in PATTERNS.values()]
    assert len({tuple(ids) for ids in seen}) == len(seen)


@pytest.mark.parametrize("pre", ["qwen2", "command-r"])
def test_composed_characters(tmp_path, greedy, pre):
    """The tokenizer.json of these begins with NFC."""
    got = tokenizer_of(header_of(tmp_path / "t.gguf", greedy, pre))
    assert got("Fra\u0308ulein").input_ids == got("Fr\u00e4ulein").input_ids
    assert isinstance(got.backend_tokenizer.normalizer, normalizers.NFC)


@pytest.mark.parametrize("pre", ["bloom", "falcon", "", None])
def test_a_way_of_cutting_that_is_not_known(tmp_path, greedy, pre):
    said = repr(pre or None)
    with pytest.raises(ModelError, match=rf"tokenizer.ggml.pre is {said}, a way of cutting text that is not known"):
        tokenizer_of(header_of(tmp_path / "t.gguf", greedy, pre))


@pytest.mark.parametrize("set_to", [True, False])
def test_the_file_decides_whether_a_text_begins_with_bos(tmp_path, greedy, set_to):
    for pre in ("llama-bpe", "gpt-2"):
        got = tokenizer_of(header_of(tmp_path / "t.gguf", greedy, pre, lambda w: w.add_add_bos_token(set_to)))
        assert (got("hello").input_ids[0] == 1) is set_to


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("model", "rwkv", "STRING", "tokenizer.ggml.model is 'rwkv'"),
        ("eos_token_id", 99999, "UINT32", "eos_token_id is 99999, and there are 1008 tokens"),
        ("eos_token_id", "two", "STRING", "eos_token_id is a str, and has to be of type int"),
        ("tokens", ["a", "b", "a"], "ARRAY", "'a' twice"),
        ("tokens", ["a", "b" * 5000], "ARRAY", "a token of 5000 characters"),
        ("tokens", [1, 2], "ARRAY", "not a list of texts"),
        ("token_type", [1, 2], "ARRAY", "token_type has 2 entries for"),
        ("merges", ["a zzzz"], "ARRAY", "'a' and 'zzzz': one of them"),
        ("merges", ["nospace"], "ARRAY", "'nospace' and ''"),
    ],
)
def test_a_tokenizer_whose_parts_do_not_fit(tmp_path, greedy, key, value, kind, message):
    def change(writer):
        types = [
            gguf.GGUFValueType.INT32
            if isinstance(value, list) and isinstance(value[0], int)
            else gguf.GGUFValueType.STRING
        ]
        options = {"sub_type": types[0]} if kind == "ARRAY" else {}
        writer.kv_data[0][f"tokenizer.ggml.{key}"] = gguf.gguf_writer.GGUFValue(
            value, gguf.GGUFValueType[kind], **options
        )

    with pytest.raises(ModelError, match=message) as refused:
        tokenizer_of(header_of(tmp_path / "t.gguf", greedy, "gpt-2", change))
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------------ SentencePiece

SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2}
SPOKEN = ["hello world 12", "  two spaces", "na\u00efve 🙂\n\nnew", "poem about the sea</s> the wind", "<s>x"]


def pieces() -> dict[str, float]:
    """Token -> score: specials, bytes, then pieces whose score is their rank, as SentencePiece's BPE has them."""
    made = make_tokenizer("pieces").backend_tokenizer
    merges = json.loads(made.to_str())["model"]["merges"]
    known = [t for t in sorted(made.get_vocab(), key=made.get_vocab().get) if not t.startswith("<")]
    merged = ["".join(pair) for pair in merges]
    letters = [t for t in dict.fromkeys([*known, *"▁0123456789"]) if t not in merged]
    tokens = [*SPECIAL, *[f"<0x{byte:02X}>" for byte in range(256)], *dict.fromkeys(merged), *letters]
    return {token: -float(max(0, i - 258)) for i, token in enumerate(tokens)}


def sentencepiece(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's own way, without its speed: the best pair of neighbours is joined, the leftmost of equals."""
    parts = list(text.replace(" ", "▁"))
    while pairs := [(scores[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in scores]:
        at = -max(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [p for part in parts for p in ([part] if part in scores else [f"<0x{byte:02X}>" for byte in part.encode()])]


def spm_header(path, scores: dict[str, float], extra=None, architecture: str = "llama"):
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(scores))
    writer.add_token_scores(list(scores.values()))
    writer.add_token_types(
        [2 if t == "<unk>" else 3 if t in SPECIAL else 6 if t.startswith("<0x") else 1 for t in scores]
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if extra:
        extra(writer)
    close(writer)
    return read_header(path)


@pytest.mark.parametrize("spaced", [True, False])
def test_sentencepiece(tmp_path, spaced):
    """Prefix space after every special token, bytes for unknown characters, merges by score."""
    scores = pieces()
    got = tokenizer_of(spm_header(tmp_path / "t.gguf", scores, lambda w: w.add_add_space_prefix(spaced)))
    ids = {token: i for i, token in enumerate(scores)}
    for text in SPOKEN:
        wanted = [1]
        for part in text.replace("</s>", "\0</s>\0").replace("<s>", "\0<s>\0").split("\0"):
            wanted += (
                [ids[part]]
                if part in SPECIAL
                else [ids[p] for p in sentencepiece(" " * spaced + part, scores)]
                if part
                else []
            )
        assert got(text).input_ids == wanted, text
    for text in SPOKEN[:3]:
        assert got.decode(got(text).input_ids, skip_special_tokens=True) == text
    assert len(got) == len(scores)
    got.save_pretrained(tmp_path)
    check_rereading(got, tmp_path)


def test_sentencepiece_of_gemma(tmp_path):
    """Runs of spaces are tokens that the file spells with spaces; merges follow the tokens' places."""
    scores = pieces()
    tokens = {**scores, "  ": 0.0}
    got = tokenizer_of(spm_header(tmp_path / "t.gguf", tokens, lambda w: w.add_add_space_prefix(False), "gemma2"))
    assert got.convert_ids_to_tokens(got("a  b", add_special_tokens=False).input_ids) == ["a", "▁▁", "b"]
    assert len(got) == len(tokens) and got("a  b").input_ids[2] == len(scores)
    assert got.decode(got("a  b").input_ids, skip_special_tokens=True) == "a  b"


def test_sentencepiece_that_is_not_read(tmp_path):
    scores = pieces()
    lost = {t: s for t, s in scores.items() if t != "<0x41>"}
    with pytest.raises(ModelError, match="lacks <0x41>, the token of a byte"):
        tokenizer_of(spm_header(tmp_path / "a.gguf", lost))
    with pytest.raises(ModelError, match="scores is not a list of one finite number"):
        tokenizer_of(spm_header(tmp_path / "b.gguf", scores | {"<0x41>": float("nan")}))
    with pytest.raises(ModelError, match="remove_extra_whitespaces is set"):
        tokenizer_of(spm_header(tmp_path / "c.gguf", scores, lambda w: w.add_remove_extra_whitespaces(True)))
