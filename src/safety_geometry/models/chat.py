"""One rendering of a conversation for training, attacks, probes and evaluation.

The whole conversation is turned into one string and tokenised once, with character offsets; token lists are never
glued. Positions (the last instruction token, the response) are read off the offsets.

A model that can think aloud is asked for its answer at once: its prompts end behind an empty thought, and answers stand
there. What a request or an answer holds is text: a control token written in it is tokenised as its letters.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from safety_geometry.models.configuration import first_line

ZEPHYR = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}{{ '<|system|>\n' + eos_token + '\n' }}{% endif %}"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""Used where the tokenizer has no template of its own (a base model)."""

TODAY = datetime(2024, 7, 26)  # Llama 3.1's own default
"""The day in the prompts of templates that write today's date: prompts must not change overnight."""

_USER, _ASSISTANT = "\u2402user-text\u2403", "\u2402assistant-text\u2403"
_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>\s*(</\1>\s*)?\Z")
_PRIVATE = 0xF0000  # first character of a plane that no text has a use for


class TemplateError(ValueError):
    """The chat template does not show where the instruction or the response stands."""


OTHERWISE = "the chat template renders a finished answer otherwise than its generation prompt"


@dataclass(frozen=True)
class Rendered:
    """Token ids of one rendered conversation.

    t_inst: index of the last token that touches the user's instruction.
    response: index of the first response token (len(ids) of the prompt if there is no response).
    merged: the token at t_inst also covers template text (a merge across the boundary).
    """

    ids: tuple[int, ...]
    t_inst: int
    response: int
    merged: bool


def special_ids(tokenizer) -> set[int]:
    """Ids of the special tokens, also of those that have no name (an end of turn that is not the end of sequence)."""
    marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | set(tokenizer.all_special_ids)


class ChatFormat:
    """Renders requests (and responses) with the tokenizer's own chat template, else Zephyr's.

    `ends`: further token ids that end an answer (`models.end_ids` of the model's folder).

    Raises:
        TemplateError: the template drops or changes the user's text, so that positions cannot be found, or cannot be
            rendered, or not twice alike; the tokenizer gives no character offsets, or has no end of sequence.
    """

    def __init__(self, tokenizer, system: str | None = None, ends: Sequence[int] = ()):
        self.tokenizer, self.system, self.ends = tokenizer, system, tuple(ends)
        if not tokenizer.is_fast:
            raise TemplateError("the tokenizer gives no character offsets: one with a tokenizer.json is needed")
        if tokenizer.eos_token_id is None:
            raise TemplateError(
                "the tokenizer names no eos_token, so that no answer would end; set it in tokenizer_config.json"
            )
        named = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
        if named and "default" not in named:
            raise TemplateError(f"the tokenizer has chat templates ({', '.join(named)}), and none is named default")
        self.template = (named.get("default") if named else tokenizer.chat_template) or ZEPHYR
        text = self._apply([{"role": "user", "content": _USER}], generate=True)
        if text.count(_USER) != 1:
            raise TemplateError("the chat template does not contain the user's message exactly once")
        self.before, self.after = text.split(_USER)
        full = self._apply([{"role": "user", "content": _USER}, {"role": "assistant", "content": _ASSISTANT}])
        head, answer, self.end = full.partition(_ASSISTANT)
        opening = self.before + _USER
        if not answer or not head.startswith(opening):
            raise TemplateError(OTHERWISE)
        self.thought, self.gap = self._between(head[len(opening) :])
        probe = self.render("x")
        if len(probe.ids) - 1 - probe.t_inst < 1:
            raise TemplateError(
                "the chat template has no tokens after the instruction, so it has no post-instruction position"
            )

    def _between(self, written: str) -> tuple[str, str]:
        """The empty thought at the end of every prompt ("" where the template knows none), and the space before an
        answer.

        `written`: what stands between a request and a finished answer. Qwen 3's template writes an empty thought there
        that its prompt need not have, R1's prompt opens one that a finished answer has not: here the prompt ends behind
        a closed one in all uses.
        """
        texts = (self.after, written)
        thoughts = [_THOUGHT.search(text) for text in texts]
        self.after, written = (text[: m.start()] if m else text for text, m in zip(texts, thoughts, strict=True))
        gap = written.removeprefix(self.after)
        # Some templates (Mistral's, Llama 2's) write a space before the answer, which the model generates itself.
        if not written.startswith(self.after) or gap.strip():
            raise TemplateError(OTHERWISE)
        thoughts = [m for m in thoughts if m]
        if not thoughts:
            return "", gap
        closed = next((m[0] for m in thoughts if m[2]), None)
        thought = closed or "<{0}>\n\n</{0}>\n\n".format(thoughts[0][1])
        self.after += thought
        return thought, ""

    def _apply(self, messages: list[dict], generate: bool = False) -> str:
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            once, again = (
                self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=_dated(self.template),
                    tokenize=False,
                    add_generation_prompt=generate,
                    enable_thinking=False,
                )
                for _ in range(2)
            )
        except Exception as error:  # a template is a program: whatever it does wrong
            hint = "" if self.system is None else "; if it knows no system prompt, set model.system to null"
            raise TemplateError(f"the chat template cannot be rendered ({first_line(error)}){hint}") from error
        if once != again:
            raise TemplateError("the chat template renders the same conversation in two ways: it draws at random")
        return once

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of template, system prompt and what they render (the date too); part of
        every artefact."""
        whole = f"{self.template}\0{self.before}\0{self.after}\0{self.gap}{self.end}"
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer: the template's end of turn, the tokenizer's end of sequence, and those of
        `ends` that are no piece of text (the settings of some models keep a default of another vocabulary)."""
        named = [i for i in self.ends if i in self.tokenizer.added_tokens_decoder]
        return tuple(dict.fromkeys([*self._written_ends, *named]))

    @cached_property
    def _written_ends(self) -> tuple[int, ...]:
        """Those of them that a rendered answer ends with."""
        ids = self.tokenizer(self.end, add_special_tokens=False)["input_ids"] if self.end else []
        first = [i for i in ids if i in special_ids(self.tokenizer)][:1]
        return tuple(dict.fromkeys([*first, self.tokenizer.eos_token_id]))

    @cached_property
    def n_prefix(self) -> int:
        """Tokens before the instruction that every rendering starts with."""
        pairs = zip(self.render("x").ids, self.render("7 y").ids, strict=False)
        return next(i for i, (first, second) in enumerate(pairs) if first != second)

    def render(self, request: str, response: str | None = None) -> Rendered:
        """Token ids of the prompt, and of the answer with its end-of-turn token if there is one."""
        return self.render_many([request], None if response is None else [response])[0]

    def render_many(self, requests: Sequence[str], responses: Sequence[str] | None = None) -> list[Rendered]:
        """`render` for many conversations at once (one call of the fast tokenizer)."""
        if not requests:
            return []
        conversations = self._conversations(requests, responses)
        rows = zip(conversations, *self._encode(conversations), strict=True)
        return [self._placed(ids, spans, len(pieces[1]), responses is not None) for pieces, ids, spans in rows]

    def token_ids(self, requests: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        """Ids as `render_many` gives them, with all that the template writes after an answer; without positions, and so
        faster."""
        return self._encode(self._conversations(requests, responses), offsets=False)[0]

    def render_dialogue(self, messages: Sequence[dict]) -> Rendered:
        """Token ids of a conversation of several turns ({role, content}, the user's first), to the end of its last
        answer.

        t_inst and response are those of the first turn.

        Raises:
            TemplateError: the template renders the first turn otherwise when others follow, or not each message once.
        """
        marks = [f"\u2402turn {number}\u2403" for number in range(len(messages))]
        rest = self._apply([{"role": m["role"], "content": mark} for m, mark in zip(messages, marks, strict=True)])
        pieces = []
        for message, mark in zip(messages, marks, strict=True):
            if rest.count(mark) != 1:
                raise TemplateError("the chat template does not contain every message exactly once")
            frame, rest = rest.split(mark)
            if message["role"] == "assistant" and not frame.endswith(self.thought):
                frame += self.thought  # Qwen 3's template leaves it out of all answers but the last
            pieces += [frame, message["content"].strip()]
        if pieces[0] != self.before or not pieces[2].startswith(self.after):
            raise TemplateError(
                "the chat template renders the first turn of a longer conversation otherwise than alone"
            )
        ids, spans = self._encode([[*pieces, rest]])
        return self._placed(ids[0], spans[0], len(pieces[1]), answered=True)

    def _conversations(self, requests: Sequence[str], responses: Sequence[str] | None) -> list[list[str]]:
        """Each as pieces of text, the template's (even places) and what users and models say (odd places) in turn."""
        if responses is None:
            return [[self.before, r.strip(), self.after] for r in requests]
        pairs = zip(requests, responses, strict=True)
        return [[self.before, r.strip(), self.after + self.gap, a.strip(), self.end] for r, a in pairs]

    def _placed(self, ids: list[int], spans: list, length: int, answered: bool) -> Rendered:
        """Where the instruction of `length` characters and the response stand among the tokens."""
        start, stop = len(self.before), len(self.before) + length
        t_inst = max((t for t, (a, b) in enumerate(spans) if a < stop and b > start and a < b), default=-1)
        if t_inst < 0:
            raise TemplateError("the instruction has no tokens (an empty request?)")
        prompt_end = stop + len(self.after)
        response = next((t for t, (a, b) in enumerate(spans) if a >= prompt_end and b > a), len(ids))
        if answered:
            ids = self._cut_after_stop(ids, response)
        return Rendered(tuple(ids), t_inst, response, spans[t_inst][1] > stop)

    def _cut_after_stop(self, ids: list[int], response: int) -> list[int]:
        """Drop what the template writes after the end-of-turn token: nothing of it is ever generated."""
        for t in range(len(ids) - 1, response - 1, -1):
            if ids[t] in self._written_ends:
                return ids[: t + 1]
        return [*ids, self.tokenizer.eos_token_id]

    def _encode(self, conversations: Sequence[Sequence[str]], offsets: bool = True) -> tuple[list, list]:
        """Ids of each conversation, and where each of them stands in its text."""
        encoded = self.tokenizer(
            ["".join(pieces) for pieces in conversations],
            add_special_tokens=False,
            return_offsets_mapping=offsets,
            return_attention_mask=False,
        )
        ids = encoded["input_ids"]
        spans = encoded["offset_mapping"] if offsets else [[] for _ in ids]
        for i, pieces in enumerate(conversations):
            if any(map(self._control.search, pieces[1::2])):
                ids[i], spans[i] = self._encode_as_text(pieces)
        if self._lead:
            none = [(0, 0)] * len(self._lead)
            ids, spans = [[*self._lead, *row] for row in ids], [[*none, *row] for row in spans]
        return ids, spans

    @cached_property
    def _lead(self) -> tuple[int, ...]:
        """What the tokenizer itself writes before a text (BOS), unless the template does. What it writes behind one (an
        end of sequence) has no place in a prompt."""
        bos = self.tokenizer.bos_token
        if bos is None or self.before.startswith(bos):
            return ()
        plain, whole = (self.tokenizer("x", add_special_tokens=special)["input_ids"] for special in (False, True))
        start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
        return tuple(whole[:start])

    @cached_property
    def _controls(self) -> dict[str, int]:
        """Control tokens: the special ones, and those that the template is made of, whether they are marked special or
        not."""
        added, special = self.tokenizer.added_tokens_decoder, special_ids(self.tokenizer)
        frame = "\0".join((self.before, self.after, self.gap, self.end))
        texts = ((i, token.content) for i, token in added.items())
        return {text: i for i, text in texts if text.strip() and (i in special or text in frame)}

    @cached_property
    def _control(self) -> re.Pattern:
        longest_first = sorted(self._controls, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def _text_only(self):
        """A tokenizer that reads control tokens as text, and as control tokens what `_disguised` makes of them; ids of
        the latter."""
        from tokenizers import AddedToken, Tokenizer

        settings = json.loads(self.tokenizer.backend_tokenizer.to_str())
        flags = {}
        for token in settings["added_tokens"]:
            if token["content"] in self._controls:
                token["special"] = True
                flags[token["content"]] = {key: token[key] for key in ("single_word", "lstrip", "rstrip")}
        made = Tokenizer.from_str(json.dumps(settings))
        made.no_truncation()
        made.no_padding()
        disguises = [
            AddedToken(self._disguised(text), normalized=False, **flags.get(text, {})) for text in self._controls
        ]
        made.add_tokens(disguises)
        made.encode_special_tokens = True
        return made, {made.token_to_id(self._disguised(text)): i for text, i in self._controls.items()}

    def _disguised(self, frame: str) -> str:
        """`frame` with each control token replaced by private characters, as many as it has: offsets stay."""
        number = {text: i for i, text in enumerate(self._controls)}
        return self._control.sub(lambda m: chr(_PRIVATE + number[m[0]]) * len(m[0]), frame)

    def _encode_as_text(self, pieces: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and offsets of a conversation whose control tokens are those of the template alone.

        Raises:
            TemplateError: the tokenizer makes a control token of a message's letters all the same.
        """
        made, controls = self._text_only
        if any(ord(character) >= _PRIVATE for message in pieces[1::2] for character in message):
            raise TemplateError(
                "a message holds a control token of the model and private characters: take one of them out"
            )
        disguised = [piece if i % 2 else self._disguised(piece) for i, piece in enumerate(pieces)]
        encoded = made.encode("".join(disguised), add_special_tokens=False)
        written = {text: i for text, i in self._controls.items() if any(text in message for message in pieces[1::2])}
        if forged := [text for text, i in written.items() if i in encoded.ids]:
            raise TemplateError(f"a message holds {forged[0]}, which this tokenizer cannot read as text: take it out")
        return [controls.get(i, i) for i in encoded.ids], encoded.offsets


def _dated(template: str) -> str:
    """The template with `TODAY` in place of today's date: `strftime_now`, which transformers offers to templates, is
    defined anew."""
    if "strftime_now" not in template:
        return template
    directives = [*(f"%-{letter}" for letter in "dmHIMSyj"), *(f"%{letter}" for letter in "aAbBcdDeFHIjmMpSTxXyYZz")]
    filters = "".join(f"|replace({d!r}, {TODAY.strftime(d)!r})" for d in directives)
    return (
        "{%- macro strftime_now(format) -%}{{ format" + filters + " }}{%- endmacro %}\n" + template
    )  # the newline is trimmed
