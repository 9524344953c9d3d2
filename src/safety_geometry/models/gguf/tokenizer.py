"""The tokenizer that a GGUF file describes: its vocabulary, merges, and how text is cut before merging.

`tokenizer.ggml.pre` is a name that stands for the cutting. Names and patterns are facts of llama.cpp
(src/llama-vocab.cpp) and of the tokenizer.json files that its converter knows by name (convert_hf_to_gguf_update.py). A
name that is not here is refused: another cutting gives other tokens, and nobody would notice.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import isfinite

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from safety_geometry.models.configuration import ModelError
from safety_geometry.models.gguf.header import Header

PREFIX = "tokenizer.ggml."
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
LONGEST = 2048  # characters of a token; the longest known have some hundreds
SPECIAL = {
    "bos_token": "bos_token_id", "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id", "pad_token": "padding_token_id",
}  # fmt: skip

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = WORDS + r"\p{N}{1,3}" + REST
QWEN2 = WORDS + r"\p{N}" + REST
QWEN35 = QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


def _cased(ending: str, digits: str) -> str:
    start = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{start}{UPPER}*{LOWER}+{ending}|{start}{UPPER}+{LOWER}*{ending}|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


TEKKEN = _cased("", r"\p{N}")
GPT4O = _cased(ENDINGS, r"\p{N}{1,3}")
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_LETTERS = (  # letters that have upper and lower case, as its tokenizer lists them
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_SIGNS = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
DEEPSEEK_LLM = (r"[\r\n]", rf"\s?[{DEEPSEEK_LETTERS}]+", rf"\s?[{DEEPSEEK_SIGNS}]+", r"\s+$", CJK, r"\p{N}+")
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}")
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+""",
)


WORDS_OF_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", WORDS_OF_GPT2, r"\p{N}+", "[0-9][0-9][0-9]")


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _digits() -> pre_tokenizers.PreTokenizer:
    """Every digit alone, then GPT-2's words."""
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _splits(*patterns: str) -> Callable[[], pre_tokenizers.PreTokenizer]:
    """Cut at every match of one pattern after the other."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return lambda: pre_tokenizers.Sequence([*cuts, as_bytes])


CUTS = {
    name: cut
    for names, cut in (
        ("gpt-2 phi-2 mpt olmo", _gpt2),
        ("smollm starcoder refact command-r", _digits),
        ("llama3 llama-v3 llama-bpe falcon3 pixtral dbrx smaug-bpe", _splits(LLAMA3)),
        ("qwen2 deepseek-r1-qwen stablelm2", _splits(QWEN2)),
        ("qwen35", _splits(QWEN35)),
        ("tekken", _splits(TEKKEN)),
        ("gpt-4o llama4", _splits(GPT4O)),
        ("deepseek-llm", _splits(*DEEPSEEK_LLM)),
        ("deepseek-coder", _splits(*DEEPSEEK_CODER)),
        ("deepseek-v3", _splits(*DEEPSEEK_V3)),
        ("default", _splits(*DEFAULT)),
    )
    for name in names.split()
}
# Llama 3's and Mistral's: a word that is in the vocabulary is not merged anew, and a text begins with BOS if the file
# does not say.
WHOLE_WORDS = frozenset(["llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken"])
# Their tokenizer.json composes characters (NFC) first, which llama.cpp leaves out.
COMPOSED = frozenset(["qwen2", "qwen35", "stablelm2", "command-r", "olmo", "mpt"])


def make_tokenizer(header: Header):
    """The tokenizer that the header describes: exactly its tokens, with their ids.

    Raises:
        ModelError: a kind of tokenizer or a cutting that is not known, or parts of it that do not fit each other.
    """
    from transformers import PreTrainedTokenizerFast

    tokens = _texts(header, "tokens")
    if not tokens:
        raise ModelError(f"{PREFIX}tokens is missing: it has no tokenizer")
    (most, times), longest = Counter(tokens).most_common(1)[0], max(map(len, tokens))
    if times > 1 or longest > LONGEST:
        fault = f"{most!r} twice" if times > 1 else f"a token of {longest} characters, more than any tokenizer"
        raise ModelError(f"{PREFIX}tokens has {fault}")
    kinds = header.get(PREFIX + "token_type", list) or [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise ModelError(f"{PREFIX}token_type has {len(kinds)} entries for {len(tokens)} tokens")
    named = {name: _named(header, key, tokens) for name, key in SPECIAL.items()}
    kind = header.get(PREFIX + "model", str)
    if kind not in ("gpt2", "llama"):
        raise ModelError(
            f"{PREFIX}model is {kind!r}; gpt2 (bytes) and llama (SentencePiece) are read: give a folder instead"
        )
    for key in ("remove_extra_whitespaces", "add_eos_token", "add_sep_token"):
        if header.get(PREFIX + key, bool):
            raise ModelError(f"{PREFIX}{key} is set, which is not read: give the model as a folder instead")
    backend, starts = (_bytes if kind == "gpt2" else _pieces)(header, tokens, kinds, named["unk_token"])
    special = [t for t, type_ in zip(tokens, kinds, strict=True) if type_ == CONTROL]
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    plain = [t for t, type_ in zip(tokens, kinds, strict=True) if type_ == USER_DEFINED]
    spelled = [t for t in plain if backend.token_to_id(t) is not None]  # not Gemma's spaces, see there
    backend.add_tokens([AddedToken(t, normalized=False, special=False) for t in spelled])
    bos = named["bos_token"]
    if header.get(PREFIX + "add_bos_token", bool, starts) and bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", f"{bos}:1", "$B:1"], special_tokens=[(bos, tokens.index(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False,
        chat_template=header.get("tokenizer.chat_template", str),
        **{name: token for name, token in named.items() if token is not None},
    )  # fmt: skip
    if len(tokenizer) != len(tokens):
        raise ModelError(f"its tokenizer has {len(tokenizer)} tokens, and {PREFIX}tokens {len(tokens)}")
    return tokenizer


def _named(header: Header, key: str, tokens: Sequence[str]) -> str | None:
    number = header.get(PREFIX + key, int)
    if number is not None and not 0 <= number < len(tokens):
        raise ModelError(f"{PREFIX}{key} is {number}, and there are {len(tokens)} tokens")
    return None if number is None else tokens[number]


def _texts(header: Header, key: str) -> list[str]:
    texts = header.get(PREFIX + key, list, [])
    if not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{PREFIX}{key} is not a list of texts")
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{PREFIX}{key} has an entry that is not UTF-8") from error
    return texts


def _bytes(header: Header, tokens: list[str], kinds: list[int], unknown: str | None) -> tuple[Tokenizer, bool]:
    """A byte-level BPE; whether it begins with BOS where the file does not say."""
    pre = header.get(PREFIX + "pre", str)
    if pre not in CUTS:
        raise ModelError(
            f"{PREFIX}pre is {pre!r}, a way of cutting text that is not known; known are {', '.join(sorted(CUTS))}:"
            " give the model as a folder (format: folder) instead"
        )
    backend = Tokenizer(_merging(tokens, _listed(header), ignore_merges=pre in WHOLE_WORDS))
    backend.normalizer = normalizers.NFC() if pre in COMPOSED else None
    backend.pre_tokenizer, backend.decoder = CUTS[pre](), decoders.ByteLevel()
    return backend, pre in WHOLE_WORDS


def _pieces(header: Header, tokens: list[str], kinds: list[int], unknown: str | None) -> tuple[Tokenizer, bool]:
    """A SentencePiece BPE: spaces are ▁, bytes stand for unknown characters, and the pieces' scores order the
    merges."""
    tokens, architecture = list(tokens), header.get("general.architecture", str, "")
    missing = {f"<0x{byte:02X}>" for byte in range(256)} - set(tokens)
    if missing:
        raise ModelError(
            f"{PREFIX}tokens lacks {min(missing)}, the token of a byte: such a SentencePiece file is not read"
        )
    gemma = architecture.startswith("gemma")
    if gemma:  # its runs of spaces are stored as spaces, and merged like all others
        tokens = ["▁" * len(token) if token and not token.strip(" ") else token for token in tokens]
    merges = _listed(header) or _merges_of(tokens, kinds, _scores(header, tokens), by_place=gemma)
    backend = Tokenizer(_merging(tokens, merges, byte_fallback=True, fuse_unk=True, unk_token=unknown))
    spaced = header.get(PREFIX + "add_space_prefix", bool, True)
    backend.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] * spaced), normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] * spaced
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return backend, True


def _scores(header: Header, tokens: Sequence[str]) -> list[float]:
    scores = header.get(PREFIX + "scores", list, [])
    if len(scores) != len(tokens) or not all(isinstance(score, int | float) and isfinite(score) for score in scores):
        raise ModelError(f"{PREFIX}scores is not a list of one finite number for each of the {len(tokens)} tokens")
    return scores


def _merges_of(
    tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float], by_place: bool
) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, the best piece first. `by_place`: Gemma's scores do not order its merges,
    their place does."""
    merged = {
        t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind not in (UNKNOWN, CONTROL, BYTE)
    }
    pairs = [
        (i if by_place else -scores[i], i, cut, (token[:cut], token[cut:]))
        for token, i in merged.items()
        for cut in range(1, len(token))
        if token[:cut] in merged and token[cut:] in merged
    ]
    return [pair for *_, pair in sorted(pairs)]


def _listed(header: Header) -> list[tuple[str, str]]:
    """The pairs of tokens of `merges`, in their order: two texts with a space between them, the first of one character
    at least."""
    pairs = []
    for merge in _texts(header, "merges"):
        left, _, right = merge[1:].partition(" ")
        pairs.append((merge[:1] + left, right))
    return pairs


def _merging(tokens: Sequence[str], merges: Sequence[tuple[str, str]], **options) -> models.BPE:
    vocabulary = {token: i for i, token in enumerate(tokens)}
    for left, right in merges:
        if not {left, right, left + right} <= vocabulary.keys():
            raise ModelError(
                f"{PREFIX}merges has {left!r} and {right!r}: one of them, or both joined, is not among the tokens"
            )
    return models.BPE(vocab=vocabulary, merges=list(merges), **options)
