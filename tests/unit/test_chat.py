"""Rendering: positions by brute force over decoded text, one BOS, the end of turn, and what templates cannot do."""

import pytest
from conftest import REQUESTS, TEMPLATE, make_tokenizer

from safety_geometry.chat import ZEPHYR, ChatFormat, TemplateError


@pytest.fixture(scope="module")
def pieces():
    """A SentencePiece-like tokenizer of a base model: no template, and a BOS that the tokenizer adds by itself."""
    return make_tokenizer("pieces", template=None)


def text_of(tokenizer, ids) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False)


@pytest.mark.parametrize("request_text", REQUESTS)
def test_positions(chat, tokenizer, request_text):
    prompt = chat.render(request_text)
    full = chat.render(request_text, "Sure, here is a list.")
    head = f"<|start|>system\nBe helpful.<|end|>\n<|start|>user\n{request_text}"
    assert text_of(tokenizer, prompt.ids) == head + "<|end|>\n<|start|>assistant\n"
    assert text_of(tokenizer, prompt.ids[: prompt.t_inst + 1]) == head
    assert not prompt.merged
    assert prompt.response == len(prompt.ids)
    assert full.ids[: full.response] == prompt.ids and full.t_inst == prompt.t_inst
    assert (
        text_of(tokenizer, full.ids[full.response :]) == "Sure, here is a list.<|end|>"
    )  # and not the newline after it


def test_the_whole_conversation_is_tokenised_at_once(chat, tokenizer):
    """Equal to the tokenizer's own template call, prompt and all."""
    messages = [{"role": "user", "content": REQUESTS[0]}]
    out = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert list(chat.render(REQUESTS[0]).ids) == list(out["input_ids"])
    messages.append({"role": "assistant", "content": "Sure"})
    out = tokenizer.apply_chat_template(messages, return_dict=True)
    ids = list(chat.render(REQUESTS[0], "Sure").ids)
    assert ids == list(out["input_ids"])[: len(ids)]


def test_render_many_equals_render(chat):
    answers = ["Sure", "Sorry, I can't do that.", "x", "One line", "List"]
    assert chat.render_many(REQUESTS, answers) == [chat.render(q, a) for q, a in zip(REQUESTS, answers, strict=True)]
    assert chat.render_many(REQUESTS) == [chat.render(q) for q in REQUESTS]
    assert chat.render("  Write a line \n").ids == chat.render("Write a line").ids
    assert chat.render_many([]) == []


def test_system_prompt(tokenizer, chat):
    other = ChatFormat(tokenizer, system="You answer in one line")
    text = text_of(tokenizer, other.render("How warm is the sea?").ids)
    assert text.startswith("<|start|>system\nYou answer in one line<|end|>\n<|start|>user\nHow warm")
    assert other.digest != chat.digest and len(chat.digest) == 16
    assert ChatFormat(tokenizer).digest == chat.digest
    assert ChatFormat(make_tokenizer(template=TEMPLATE.replace("helpful", "kind"))).digest != chat.digest


def test_zephyr_fallback_and_one_bos(pieces):
    assert pieces.chat_template is None
    chat = ChatFormat(pieces)
    assert chat.template == ZEPHYR
    for r in (chat.render("How warm is the sea?"), chat.render("How warm is the sea?", "Sure")):
        assert list(r.ids).count(pieces.bos_token_id) == 1 and r.ids[0] == pieces.bos_token_id
    r = chat.render("How warm is the sea?", "Sure")
    text = text_of(pieces, r.ids).removeprefix("<s>").lstrip()
    assert text == "<|system|>\n<|end|>\n<|user|>\nHow warm is the sea?<|end|>\n<|assistant|>\nSure<|end|>"
    assert text_of(pieces, r.ids[r.response :]) == "Sure<|end|>"
    assert text_of(pieces, r.ids[: r.t_inst + 1]).endswith("sea?")
    with_system = ChatFormat(pieces, "Be helpful.")
    assert "<|system|>\nBe helpful.<|end|>" in text_of(pieces, with_system.render("x").ids)


def test_no_double_bos_when_the_template_writes_it():
    template = "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = make_tokenizer("pieces", template)
    ids = ChatFormat(tokenizer).render("How warm?", "Sure").ids
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_stop_ids(chat, tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert chat.stop_ids == (end,)
    two = make_tokenizer(template=TEMPLATE)
    two.eos_token = "<s>"
    assert ChatFormat(two).stop_ids == (end, two.convert_tokens_to_ids("<s>"))
    assert ChatFormat(two).render("x", "Sure").ids[-1] == end


def test_an_answer_without_an_end_in_the_template_gets_the_end_of_sequence():
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = make_tokenizer(template=template)
    chat = ChatFormat(tokenizer)
    r = chat.render("How warm?", "Sure, here")
    assert r.ids[-1] == tokenizer.eos_token_id and r.ids.count(tokenizer.eos_token_id) == 1
    assert chat.stop_ids == (tokenizer.eos_token_id,)


def test_a_template_with_a_space_before_the_answer():
    """Mistral's and Llama 2's form: the space belongs to the answer's first token, which the model generates."""
    template = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    tokenizer = make_tokenizer("pieces", template)
    chat = ChatFormat(tokenizer)
    prompt, full = chat.render("How warm?"), chat.render("How warm?", "bread")
    assert full.ids[: full.response] == prompt.ids
    assert tokenizer.convert_ids_to_tokens(full.ids[full.response]).startswith("▁")
    assert text_of(tokenizer, full.ids[full.response :]).strip() == "bread<|end|>"
    out = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How warm?"}, {"role": "assistant", "content": "bread"}], tokenize=False
    )
    assert list(full.ids) == tokenizer(out, add_special_tokens=False)["input_ids"]


def test_prefix_length(chat, tokenizer):
    shared = {chat.render(q).ids[: chat.n_prefix] for q in REQUESTS}
    assert len(shared) == 1
    assert text_of(tokenizer, shared.pop()) == "<|start|>system\nBe helpful.<|end|>\n<|start|>user\n"


def test_merges_across_the_border_are_seen():
    """A token that holds the end of the request and template text is reported, and is the t_inst."""
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'user ' + m['content'] + ' the wind.' }}"
        "{% else %}{{ ' sea' + m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' sea' }}{% endif %}"
    )
    merging = make_tokenizer("merging", template)
    chat = ChatFormat(merging)
    seen = []
    for text in ("Write a poem", "Explain how", "Write a short poem about the sea and", "1234567890", "bread?"):
        r = chat.render(text)
        encoded = merging(f"user {text} the wind. sea", return_offsets_mapping=True)
        stop = len("user " + text)
        touching = [t for t, (a, b) in enumerate(encoded["offset_mapping"]) if a < stop and b > len("user ")]
        assert list(r.ids) == encoded["input_ids"] and r.t_inst == touching[-1]
        assert r.merged == (encoded["offset_mapping"][touching[-1]][1] > stop)
        seen.append(r.merged)
        # A response token is one that starts in the response, whatever merged before it.
        full = chat.render(text, "bread rises")
        encoded = merging(f"user {text} the wind. seabread rises", return_offsets_mapping=True)
        starts = [a for a, _ in encoded["offset_mapping"]]
        assert full.response == next(t for t, a in enumerate(starts) if a >= len(f"user {text} the wind. sea"))
    assert set(seen) == {True, False}


def test_non_ascii_requests(chat, tokenizer):
    r = chat.render("Größe 漢字 🙂")
    assert text_of(tokenizer, r.ids[: r.t_inst + 1]).endswith("Größe 漢字 🙂")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 'hello' }}", "exactly once"),
        ("{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}", "exactly once"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "exactly once"),
        ("{% for m in messages %}{{ '[' + m['content'] + ']' }}{% endfor %}{% if add_generation_prompt %}>>{% endif %}", "otherwise than"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "no tokens after the instruction"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_used(template, message):
    with pytest.raises(TemplateError, match=message):
        ChatFormat(make_tokenizer(template=template))


def test_a_template_that_knows_no_system_prompt():
    template = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ m['content'] }}{% endfor %}."
    with pytest.raises(TemplateError, match=r"no system role.*set model.system to null"):
        ChatFormat(make_tokenizer(template=template), "Be kind.")


def test_of_several_templates_the_default():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"tool_use": "{{ 'hello' }}", "default": TEMPLATE}
    assert ChatFormat(tokenizer).template == TEMPLATE


def test_a_tokenizer_without_an_end_of_sequence():
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TemplateError, match="names no eos_token"):
        ChatFormat(tokenizer)


def test_a_dialogue_begins_as_its_first_turn_alone(chat, tokenizer):
    turns = ["How warm is it?", " Warm. ", "And the wind?", "Mild"]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    alone, whole = chat.render(turns[0], turns[1]), chat.render_dialogue(messages)
    assert whole.ids[: len(alone.ids)] == alone.ids
    assert (whole.t_inst, whole.response) == (alone.t_inst, alone.response)
    assert tokenizer.decode(whole.ids).endswith("assistant\nMild<|end|>")
    assert chat.render_dialogue(messages[:2]) == alone


def test_a_template_that_looks_ahead_has_no_dialogues():
    template = "{{ '<|start|>' }}{% if messages | length > 2 %}{{ 'long ' }}{% endif %}" + TEMPLATE
    chat = ChatFormat(make_tokenizer(template=template))
    messages = [{"role": ("user", "assistant")[i % 2], "content": "Hello"} for i in range(4)]
    with pytest.raises(TemplateError, match="first turn of a longer conversation otherwise than alone"):
        chat.render_dialogue(messages)


def test_empty_request(chat):
    with pytest.raises(TemplateError, match="no tokens"):
        chat.render("  ")
