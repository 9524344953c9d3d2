"""An attacked conversation: where the suffix and the target stand, and which suffixes survive as text.

The conversation is tokenised as a whole, for the gradient, for the candidates and for training alike.
"""

import functools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from safety_geometry.models.chat import ChatFormat, special_ids

RANDOM = "random"
"""A start of words drawn anew by seed, in place of one token's text."""
TRIES = 200


@dataclass(frozen=True)
class Suffix:
    """An attacked conversation: ids of the prompt and target, where the suffix and the target stand, and its loss."""

    request: str
    target: str
    text: str
    ids: tuple[int, ...]
    start: int
    stop: int
    target_start: int
    loss: float = float("nan")

    @property
    def prompt(self) -> str:
        """The user's message: the request with the suffix."""
        return self.request + self.text

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of the suffix itself."""
        return self.ids[self.start : self.stop]

    def changed(self, tokens: Sequence[int], text: str, loss: float) -> "Suffix":
        """The same conversation with another suffix of as many tokens."""
        return replace(self, ids=((*self.ids[: self.start], *tokens, *self.ids[self.stop :])), text=text, loss=loss)


class SuffixError(ValueError):
    """The suffix cannot be placed: the tokenizer merges it with the request or the template."""


def place(chat: ChatFormat, request: str, target: str, text: str) -> Suffix:
    """Tokenise the whole conversation with suffix `text` and locate it.

    Raises:
        SuffixError: a token crosses the border between the request and the suffix, or the suffix and the template.
    """
    rendered = chat.render(request + text, target)
    ids = rendered.ids[:-1] if rendered.ids[-1] in chat.stop_ids else rendered.ids  # the target has no end of turn
    bare = chat.render(request)
    start = bare.t_inst + 1
    if rendered.ids[:start] != bare.ids[:start] or rendered.merged:
        raise SuffixError(
            f"the tokenizer merges the suffix with what stands around it (suffix of {len(text)} characters)"
        )
    return Suffix(request, target, text, tuple(ids), start, rendered.t_inst + 1, rendered.response)


def initial_suffix(chat: ChatFormat, request: str, target: str, init: str, length: int, seed: int = 0) -> Suffix:
    """The start: `init` repeated to `length` tokens, or as many words drawn by `seed` where it is `RANDOM`.

    Raises:
        SuffixError: that is another number of tokens, or it cannot be placed.
    """
    return common_start(chat, [(request, target)], init, length, seed)[0]


def common_start(
    chat: ChatFormat, conversations: Sequence[tuple[str, str]], init: str, length: int, seed: int = 0
) -> list[Suffix]:
    """One start behind each of several requests, given with their targets; as `initial_suffix`. Raises SuffixError."""
    trouble: SuffixError | None = None
    for text in random_texts(chat, length, seed) if init == RANDOM else [init * length]:
        try:
            placed = [place(chat, request, target, text) for request, target in conversations]
        except SuffixError as error:
            trouble = error
            continue
        if all(suffix.stop - suffix.start == length for suffix in placed):
            return placed
        tokens = placed[0].stop - placed[0].start
        what = f"{length} words drawn at random" if init == RANDOM else f"{length} × {init!r}"
        trouble = SuffixError(f"{what} is {tokens} tokens; choose another `init`")
    raise trouble or SuffixError("the tokenizer has no token that begins a word; choose another `init`")


def random_texts(chat: ChatFormat, length: int, seed: int) -> Iterator[str]:
    """Up to TRIES texts of `length` tokens that each begin a word: in most tokenizers words do not merge."""
    words = _words(chat.tokenizer)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(TRIES if words else 0):
        yield "".join(words[i] for i in torch.randint(len(words), (length,), generator=generator).tolist())


@functools.lru_cache(maxsize=2)
def _words(tokenizer) -> tuple[str, ...]:
    """Texts of the tokens that begin a word and are allowed in a suffix, each with its leading space."""
    # Decoded after another token: SentencePiece drops the leading space of what stands first.
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    allowed = allowed_tokens(tokenizer, len(tokenizer)).nonzero()[:, 0].tolist()
    decoded = tokenizer.batch_decode([[anchor], *([anchor, i] for i in allowed)], clean_up_tokenization_spaces=False)
    texts = (text[len(decoded[0]) :] for text in decoded[1:])
    return tuple(text for text in texts if text.startswith(" ") and text.strip())


def allowed_tokens(tokenizer, vocabulary: int) -> Tensor:
    """[V] boolean: tokens that decode to printable ASCII text and are not special."""
    printable = set(string.printable) - set("\t\n\r\x0b\x0c")
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    ok = torch.zeros(vocabulary, dtype=torch.bool)
    ok[: len(texts)] = torch.tensor([bool(t.strip()) and set(t) <= printable for t in texts])
    ok[[i for i in special_ids(tokenizer) if i < vocabulary]] = False
    return ok


def surviving(
    chat: ChatFormat, suffixes: Sequence[Suffix], candidates: Sequence[Sequence[Sequence[int]]]
) -> list[list[str | None]]:
    """The text of every candidate whose whole conversation re-tokenises to the same ids, None for the others.

    `candidates` holds token lists for each of the suffixes. All of them are decoded by one call of the tokenizer and
    encoded by another, without the offsets that `ChatFormat.render` reads positions from: none are needed here.
    """
    rows = []
    for suffix, tokens in zip(suffixes, candidates, strict=True):
        # Decoded after the token before it: SentencePiece drops the leading space of what stands first.
        anchor = suffix.ids[suffix.start - 1]
        rows += [[anchor], *([anchor, *row] for row in tokens)]
    decoded = iter(chat.tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False))
    texts = []
    for tokens in candidates:
        before = len(next(decoded))
        texts.append([next(decoded)[before:] for _ in tokens])

    # Each conversation is encoded once more as it is: what follows its target must follow a candidate's as well.
    whole = [(s, text) for s, of_suffix in zip(suffixes, texts, strict=True) for text in (s.text, *of_suffix)]
    encoded = iter(chat.token_ids([s.request + text for s, text in whole], [s.target for s, _ in whole]))
    out = []
    for suffix, tokens, texts_of_suffix in zip(suffixes, candidates, texts, strict=True):
        head, tail = list(suffix.ids[: suffix.start]), list(suffix.ids[suffix.stop :])
        tail += next(encoded)[len(suffix.ids) :]
        out.append(
            [
                t if next(encoded) == [*head, *row, *tail] else None
                for row, t in zip(tokens, texts_of_suffix, strict=True)
            ]
        )
    return out
