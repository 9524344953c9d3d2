"""One rendering of a conversation for training, attacks, probes and evaluation.

The whole conversation is turned into one string and tokenised once, with character offsets; token lists are never
glued. Positions (the last instruction token, the response) are read off the offsets.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

ZEPHYR = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|system|>\n' + eos_token + '\n' }}{% endif %}"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""Used where the tokenizer has no template of its own (a base model)."""

_USER, _ASSISTANT = "\u2402user-text\u2403", "\u2402assistant-text\u2403"


class TemplateError(ValueError):
    """The chat template does not show where the instruction or the response stands."""


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

    Raises:
        TemplateError: the template drops or changes the user's text, so that positions cannot be found, or cannot be rendered; the
            tokenizer gives no character offsets, or has no end of sequence.
    """

    def __init__(self, tokenizer, system: str | None = None):
        self.tokenizer, self.system = tokenizer, system
        if not tokenizer.is_fast:
            raise TemplateError("the tokenizer gives no character offsets: one with a tokenizer.json is needed")
        if tokenizer.eos_token_id is None:
            raise TemplateError(
                "the tokenizer names no eos_token, so that no answer would end; set it in tokenizer_config.json"
            )
        own = tokenizer.chat_template
        self.template = (own.get("default") if isinstance(own, dict) else own) or ZEPHYR
        text = self._apply([{"role": "user", "content": _USER}], generate=True)
        if text.count(_USER) != 1:
            raise TemplateError("the chat template does not contain the user's message exactly once")
        self.before, self.after = text.split(_USER)
        full = self._apply([{"role": "user", "content": _USER}, {"role": "assistant", "content": _ASSISTANT}])
        opening = self.before + _USER + self.after
        # Some templates (Mistral's, Llama 2's) write a space before the answer, which the model generates itself.
        self.gap, _, self.end = full[len(opening) :].partition(_ASSISTANT)
        if not full.startswith(opening) or _ASSISTANT not in full or self.gap.strip():
            raise TemplateError("the chat template renders a finished answer otherwise than its generation prompt")
        probe = self.render("x")
        if len(probe.ids) - 1 - probe.t_inst < 1:
            raise TemplateError(
                "the chat template has no tokens after the instruction, so it has no post-instruction position"
            )

    def _apply(self, messages: list[dict], generate: bool = False) -> str:
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=generate
            )
        except Exception as error:
            if not type(error).__module__.startswith("jinja2"):  # what transformers renders with; no dependency of ours
                raise
            hint = "" if self.system is None else "; if it knows no system prompt, set model.system to null"
            raise TemplateError(f"the chat template cannot be rendered ({error}){hint}") from error

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of template and system prompt; part of every artefact."""
        whole = f"{self.template}\0{self.before}\0{self.after}\0{self.gap}{self.end}"
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer: the template's end of turn and the tokenizer's end of sequence."""
        ids = [i for i in self._encode(self.end)["input_ids"] if i in special_ids(self.tokenizer)][:1]
        return tuple(dict.fromkeys([*ids, self.tokenizer.eos_token_id]))

    @cached_property
    def n_prefix(self) -> int:
        """Tokens before the instruction that every rendering starts with."""
        a, b = self.render("x").ids, self.render("7 y").ids
        return next(i for i, (p, q) in enumerate(zip(a, b, strict=False)) if p != q)

    def render(self, request: str, response: str | None = None) -> Rendered:
        """Token ids of the prompt, and of the answer with its end-of-turn token if there is one."""
        return self.render_many([request], None if response is None else [response])[0]

    def render_many(self, requests: Sequence[str], responses: Sequence[str] | None = None) -> list[Rendered]:
        """`render` for many conversations at once (one call of the fast tokenizer)."""
        if not requests:
            return []
        requests = [r.strip() for r in requests]
        answers = [""] * len(requests) if responses is None else [self.gap + r.strip() + self.end for r in responses]
        texts = [self.before + r + self.after + a for r, a in zip(requests, answers, strict=True)]
        encoded = self._encode(texts)
        rows = zip(requests, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [self._placed(ids, spans, len(request), responses is not None) for request, ids, spans in rows]

    def render_dialogue(self, messages: Sequence[dict]) -> Rendered:
        """Token ids of a conversation of several turns ({role, content}, the user's first), to the end of its last answer.

        t_inst and response are those of the first turn.

        Raises:
            TemplateError: the template renders the first turn otherwise when others follow.
        """
        messages = [{"role": m["role"], "content": m["content"].strip()} for m in messages]
        request, text = messages[0]["content"], self._apply(messages)
        if not text.startswith(self.before + request + self.after):
            raise TemplateError(
                "the chat template renders the first turn of a longer conversation otherwise than alone"
            )
        encoded = self._encode(text)
        return self._placed(encoded["input_ids"], encoded["offset_mapping"], len(request), answered=True)

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
            if ids[t] in self.stop_ids:
                return ids[: t + 1]
        return [*ids, self.tokenizer.eos_token_id]

    def _encode(self, text):
        bos = self.tokenizer.bos_token
        first = text if isinstance(text, str) else text[0]
        special = bos is not None and not first.startswith(bos) and text is not self.end
        return self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
