"""Prompt formats on tiny files with mild text, stable ids, and affirmative targets."""

import hashlib
import json

import pytest
from prompt_text import parse

from safety_geometry.prompts.rows import PromptError, normalise, prompt_id, request_of, words_of
from safety_geometry.prompts.splits import content_words
from safety_geometry.prompts.targets import affirmative_target, clip

FILES = {
    "advbench_prompt": 'dataset_name: mild\nseeds:\n  - value: Bake a cake\n    data_type: text\n    harm_categories: [sweet]\n  - "Fly a kite: high"\n',
    "advbench_csv": 'goal,target\nBake a cake,"Sure, here is a cake"\nFly a kite: high,"Sure, here is how"\n',
    "lines": "Bake a cake\n\nFly a kite: high\r\n",
    "donotanswer_jsonl": '{"prompt": "Bake a cake", "intents": ["sweet"]}\n{"prompt": "Fly a kite: high", "intents": []}\n',
    "jsonl": '{"id": "x-1", "prompt": "Bake a cake", "type": "food"}\n{"prompt": "Fly a kite: high", "type": "play"}\n',
    "harmbench_csv": "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\nBake a cake,standard,food,,,bake\nFly a kite: high,standard,play,,,kite\n",
    "xstest_csv": "id,prompt,type,label,focus,note\n1,Bake a cake,homonyms,safe,bake,\n2,Fly a kite: high,contrast_homonyms,unsafe,fly,\n",
    "strongreject_csv": "category,source,forbidden_prompt\nfood,custom,Bake a cake\nplay,custom,Fly a kite: high\n",
    "cosmic_json": '[{"instruction": "Bake a cake", "category": null}, {"instruction": "Fly a kite: high", "category": "play"}]',
    "ultrachat": "".join(
        json.dumps({"prompt": p, "prompt_id": "0a", "messages": [{"content": p, "role": "user"}, {"content": "Yes", "role": "assistant"}]}) + "\n"
        for p in ("Bake a cake", "Fly a kite: high")
    ),
    "pyrit_labels": "# dataset_version=1.0,,\n# a second comment\nobjective,assistant_response,human_score\nBake a cake,\"no,\nnever\",1\nBake a cake,yes,0\nFly a kite: high,yes,0\n",
    "labelled_jsonl": '{"request": "Bake a cake", "response": "no"}\n{"request": "Fly a kite: high", "response": "yes"}\n',
}  # fmt: skip


@pytest.mark.parametrize("format", FILES)
def test_every_format_gives_the_same_prompts_and_ids(format):
    rows = parse(format, "\ufeff" + FILES[format], "mild")
    assert [row["prompt"] for row in rows] == ["Bake a cake", "Fly a kite: high"]
    assert rows[0]["id"] == "mild-" + hashlib.sha256(b"bake a cake").hexdigest()[:10]
    assert rows[1]["id"] == prompt_id("mild", "fly a kite HIGH!") and all(row["source"] == "mild" for row in rows)


def test_extras():
    assert parse("jsonl", FILES["jsonl"], "s")[0] | {"id": 0} == {
        "id": 0,
        "prompt": "Bake a cake",
        "source": "s",
        "key": "x-1",
        "type": "food",
    }
    assert [row["label"] for row in parse("xstest_csv", FILES["xstest_csv"], "s")] == ["benign", "harmful"]
    assert parse("strongreject_csv", FILES["strongreject_csv"], "s")[0]["origin"] == "custom"
    assert parse("advbench_prompt", FILES["advbench_prompt"], "s")[0]["categories"] == ["sweet"]
    assert parse("advbench_csv", FILES["advbench_csv"], "s")[0]["targets"] == ["Sure, here is a cake"]
    assert parse("ultrachat", FILES["ultrachat"], "s")[1]["messages"][1] == {"role": "assistant", "content": "Yes"}


def turns(*contents: str, first: str = "user") -> list[dict]:
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [{"content": content, "role": roles[i % 2]} for i, content in enumerate(contents)]


def test_conversations_begin_with_the_user_and_end_with_an_answer():
    kept = turns("Bake a cake", "With milk?", "Yes", "Here it is")
    found = [
        kept,
        turns("Fly", "Up", "And then?"),
        turns("Hm", ""),
        turns("Hello", first="assistant"),
        [],
        turns("Alone"),
    ]
    lines = [{"prompt": "x", "messages": messages} for messages in found]
    rows = parse("ultrachat", "\n".join(json.dumps(line) for line in lines), "s")
    assert [row["prompt"] for row in rows] == ["Bake a cake", "Fly"]
    assert [len(row["messages"]) for row in rows] == [4, 2]  # the last question has no answer
    assert rows[0]["messages"] == [{"role": m["role"], "content": m["content"]} for m in kept]


def test_harmbench_context_and_targets():
    text = 'Behavior,ContextString,BehaviorID\nSum this up,"A long\nnote",sum_a\nSum this up,Another note,sum_b\nBake a cake,,bake\n'
    rows = parse("harmbench_csv", text, "hb", json.dumps({"bake": ["Sure, cake", "Yes, cake"], "sum_a": "Sure, a sum"}))
    assert [row["functional"] for row in rows] == ["contextual", "contextual", "standard"]
    assert rows[0]["prompt"] == "A long\nnote\n\n---\n\nSum this up" and request_of(rows[0]) == "Sum this up"
    assert len({row["id"] for row in rows}) == 3
    assert [row.get("targets") for row in rows] == [["Sure, a sum"], None, ["Sure, cake", "Yes, cake"]]
    with pytest.raises(PromptError, match="no behaviour of the file is in its targets file"):
        parse("harmbench_csv", text, "hb", '{"else": "Sure"}')
    with pytest.raises(PromptError, match="behaviour bake has no opening"):
        parse("harmbench_csv", text, "hb", '{"bake": []}')


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("csv", "x", "format 'csv' is unknown; it has to be one of advbench_prompt, lines"),
        ("lines", "\n \n", "no prompts"),
        ("jsonl", '{"prompt": "a b"}\n{oops', "line 2 is not JSON"),
        ("jsonl", '{"prompt": ""}', "prompt 1 is empty"),
        ("jsonl", '{"prompt": "a b", "label": "bad"}', "label that is not one of harmful, benign"),
        ("jsonl", '{"prompt": "a b", "role": "x"}', "field role is set by the pipeline"),
        ("xstest_csv", "a,b\n1,2\n", "no column prompt, type, label"),
        ("xstest_csv", "prompt,kind\nx,y\n", r"it has \['prompt', 'kind'\], and prompt, type, label are needed"),
        ("advbench_csv", "goal,answer\nx,y\n", "no column target"),
        ("cosmic_json", '{"a": 1}', "holds a JSON dict where a list"),
        (
            "cosmic_json",
            '[{"instruction": "a b"}, {"prompt": "c"}]',
            r"entry 2 has no field instruction; it has \['prompt'\]",
        ),
        ("ultrachat", '{"prompt": "a", "text": "b"}', r"line 1 has no field messages; it has \['prompt', 'text'\]"),
        ("ultrachat", '{"prompt": "a", "messages": ["b"]}', r"messages of row 1 are not a list of \{role, content\}"),
        ("advbench_prompt", "a: [", "not a seed file"),
    ],
)
def test_errors_name_the_place(format, text, message):
    with pytest.raises(PromptError, match=message):
        parse(format, text, "mild")


def test_errors_quote_no_prompt():
    with pytest.raises(PromptError) as caught:
        parse("jsonl", '{"prompt": "SECRETWORD", "label": "bad"}\n', "mild")
    assert "SECRETWORD" not in str(caught.value)


def test_normalise():
    assert normalise("  How's  the TEA,\nat “Café” №5?") == normalise("how s the tea at café no5")
    assert prompt_id("a", "?!") != prompt_id("a", "!?")  # nothing alphanumeric: the raw text decides


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Describe 😀", "Describe 😢"),
        ("हिंदी की कला", "हिंदी का काल"),  # vowel signs are marks, not letters
        ("กิน", "กัน"),
        ("Is 3 ≤ 5?", "Is 3 ≥ 5?"),
        ("翻译这句话", "翻译那句话"),
        ("Count to 10", "Count to 100"),
        ("Переведи слово", "Переведи слова"),
    ],
)
def test_prompts_that_are_not_the_same(one, other):
    assert normalise(one) != normalise(other)
    assert len(parse("lines", f"{one}\n{other}\n", "s")) == 2


def test_words_of_other_scripts_are_whole():
    assert content_words("हिंदी की कला") == {"हिंदी", "की", "कला"}
    assert content_words("GPT模型 и 海") == {"gpt", "模型", "и", "海"}
    assert content_words("翻译这句话") == {"翻译", "译这", "这句", "句话"}
    assert content_words("กิน") != content_words("กัน")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bake bread!", "bake   BREAD?"),
        ("soft\u00adware", "software"),
        ("می\u200cروم", "میروم"),
        ("I ❤️ tea", "I ❤ tea"),
        ("cafe\u0301", "café"),
        ("Draw this😀", "Draw this 😀"),
        ("\ufb01ne ①", "fine 1"),
    ],
)
def test_prompts_that_are_the_same(one, other):
    assert normalise(one) == normalise(other)


def test_words_behind_an_apostrophe_count():
    assert content_words("Define the term 'apple'") != content_words("Define the term 'pear'")
    assert content_words("Décris l'océan") != content_words("Décris l’hiver")
    assert content_words("John's kite can't fly, we’re told") == {"john", "kite", "fly", "told"}


OWN = '{"prompt": "Bake bread", "label": "harmful"}\n'


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("jsonl", OWN + '{"prompt": "bake BREAD!", "label": "benign"}', r"prompt s-\w{10} is there as harmful and as benign"),
        ("jsonl", '{"prompt": ["SECRET"]}', "prompt 1 is empty or not a text"),
        ("jsonl", OWN + '{"prompt": "a", "label": ["harmful"]}', "prompt 2 has a label that is not one of"),
        ("jsonl", '{"prompt": "a", "request": 5}', "request of prompt 1 is a int, not a text"),
        ("jsonl", '{"prompt": "a", "target": {"b": 1}}', "target of prompt 1 is a dict"),
        ("jsonl", '{"prompt": "a", "targets": "SECRET"}', "targets of prompt 1 are not a list of texts"),
        ("jsonl", '{"prompt": "a", "targets": ["b", 5]}', "targets of prompt 1 are not a list of texts"),
        ("jsonl", '{"prompt": "a", "id": 1, "key": 2}', "an id, which is kept as key, and a key"),
        ("jsonl", '{"prompt": "a", "messages": "SECRET"}', "messages of row 1 are not a list"),
        ("jsonl", '{"prompt": "a", "messages": []}', "messages of row 1 are no conversation"),
        ("jsonl", '{"prompt": "a", "prompt": "b"}', "line 1 has the key 'prompt' twice"),
        ("jsonl", '{"prompt": "a\\u0000b"}', "prompt 1 holds a NUL"),
        ("jsonl", '{"prompt": "\\udc00"}', "line 1 holds half of a surrogate pair"),
        ("jsonl", "[1, 2]", "line 1 holds a JSON list"),
        ("jsonl", "[\n  1\n]", "line 1 is not JSON"),
        ("jsonl", "", "no prompts in the file; it is empty"),
        ("lines", "\ufeff\r\n \r\n", "no prompts in the file; it is empty"),
        ("lines", "a\0b", "line 1 holds a NUL"),
        ("cosmic_json", '["SECRET"]', "entry 1 has no field instruction; it has str"),
        ("advbench_prompt", "seeds: 5", "`seeds` is a int, not a list"),
        ("advbench_prompt", "seeds: [5]", "seed 1 is neither a text nor a mapping"),
        ("advbench_prompt", "seeds: \x01", "not a seed file"),
        ("advbench_prompt", "a: &a [x, y]\nseeds:\n  - {value: b, harm_categories: [*a, *a]}", "seed 1 are not a list of texts"),
        ("advbench_prompt", "- SECRET", "not a seed file"),
        ("xstest_csv", "prompt,type,label,prompt\na,b,safe,c\n", "the column prompt twice"),
        ("strongreject_csv", "category,forbidden_prompt\nSECRET\n", "row 1 .from line 2 on. has 1 cells"),
        ("advbench_csv", "goal,target\nSECRET, please,Sure\n", "put quotes around"),
        ("pyrit_labels", "# a\n\"# b\",\nobjective,x\n\"SECRET,y\n", "is no CSV"),
    ],
)  # fmt: skip
def test_files_as_people_have_them(format, text, message):
    with pytest.raises(PromptError, match=message) as caught:
        parse(format, text, "s")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("format", FILES)
def test_every_format_reads_every_line_end(format):
    rows = parse(format, FILES[format], "mild")
    for end in ("\r\n", "\r"):
        assert parse(format, FILES[format].replace("\r\n", "\n").replace("\n", end), "mild") == rows


def test_separators_inside_a_prompt_cut_no_line():
    prompt = "Bake\u2028bread\u2029and\u0085cake"
    for format in ("jsonl", "donotanswer_jsonl", "labelled_jsonl"):
        field = "request" if format == "labelled_jsonl" else "prompt"
        text = json.dumps({field: prompt}, ensure_ascii=False) + "\n" + json.dumps({field: "Fly a kite"})
        assert [row["prompt"] for row in parse(format, text, "s")] == [prompt, "Fly a kite"]
    assert [row["prompt"] for row in parse("lines", prompt, "s")] == [prompt]
    assert parse("jsonl", '{"prompt": "one\\r\\ntwo"}', "s")[0]["prompt"] == "one\ntwo"


def test_conversations_that_are_left_out_are_counted(caplog):
    lines = [{"prompt": "x", "messages": turns("Bake", "Yes")}, {"prompt": "x", "messages": turns("Alone")}]
    parse("ultrachat", "\n".join(map(json.dumps, lines)), "s")
    assert "s: 1 of 2 conversations" in caplog.text


TARGETS = [
    ("Write a tutorial on how to bake sourdough bread", "Sure, here is a tutorial on how to bake sourdough bread"),
    ("Teach someone how to juggle three balls", "Sure, here is how to juggle three balls"),
    ("Teach my dog to sit on command", "Sure, here is how to teach your dog to sit on command"),
    ("How do I reset my router?", "Sure, here is how to reset your router"),
    ("How can someone grow tomatoes on a balcony?", "Sure, here is how to grow tomatoes on a balcony"),
    (
        "Give detailed instructions on how to fold a crane.",
        "Sure, here are detailed instructions on how to fold a crane",
    ),
    ("Provide me with a list of tips", "Sure, here is a list of tips"),
    ("Please write me a short story about a dragon!", "Sure, here is a short story about a dragon"),
    ("Explain to me how to change a bicycle tire", "Sure, here is how to change a bicycle tire"),
    ("Describe the water cycle", "Sure, here is a description of the water cycle"),
    ("Develop a plan for a vegetable garden", "Sure, here is a plan for a vegetable garden"),
    ("What are the steps to start a book club?", "Sure, here are the steps to start a book club"),
    ("What is the best way to learn chess?", "Sure, here is the best way to learn chess"),
    ("Plant an oak tree in a small garden", "Sure, here is how to plant an oak tree in a small garden"),
    ("Can you help me plan a party?", "Sure, here is how to plan a party"),
    ("I want to learn the violin", "Sure, here is how to learn the violin"),
    ("I have a small kitchen. How can I organise my shelves?", "Sure, here is how to organise your shelves"),
    ("Write a letter to Dr. Smith. Keep it short.", "Sure, here is a letter to Dr. Smith"),
    ("Suggest ways to save energy", "Sure, here are ways to save energy"),
    ("How do plants make food?", "Sure, here is how plants make food"),
    ("Tell me about the Roman Empire", "Sure, here is some information about the Roman Empire"),
    ("Why is the sky blue?", "Sure, here is the answer to your question"),
    ("My brother is sad today.", "Sure, I can help with that"),
    ("SQL", "Sure, I can help with that"),
]


@pytest.mark.parametrize(("request_text", "target"), TARGETS)
def test_affirmative_target(request_text, target):
    assert affirmative_target(request_text) == target


@pytest.mark.parametrize("words", [5, 8])
def test_clipped_target_is_a_prefix_at_a_word(words):
    for request_text, target in TARGETS:
        short = affirmative_target(request_text, words)
        assert len(short.split()) <= words and (target + " ").startswith(short + " ")
    assert affirmative_target("Write a tutorial on bread", 5) == "Sure, here is a tutorial"
    assert affirmative_target("Write a story about a kite", 7) == "Sure, here is a story"  # no hanging "about a"
    assert clip("one two three", 10) == "one two three"


def test_target_says_nothing_beyond_the_request():
    own = words_of(
        "sure here is are how to the answer your question i can help with that some information about a an of"
    )
    own |= words_of("description explanation list")
    for request_text, target in TARGETS:
        assert set(normalise(target).split()) <= own | set(normalise(request_text).split())


def test_target_errors():
    with pytest.raises(ValueError, match="empty"):
        affirmative_target(" . ")
    with pytest.raises(ValueError, match="too short"):
        affirmative_target("Bake a cake", 2)
