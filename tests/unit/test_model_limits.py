"""What a model cannot do, by its config.json alone; what that does not tell is not judged."""

import pytest

from safety_geometry.models.limits import Asked, faults

MODEL = {
    "num_hidden_layers": 4, "vocab_size": 100, "max_position_embeddings": 64, "hidden_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def test_what_fits():
    asked = Asked({"refusal.layers": [0, 3]}, {"attacks.gcg.top_k": 100}, {"transfer.max_new_tokens": 63})
    assert list(faults("base", MODEL, asked)) == []
    assert list(faults("base", {}, Asked({"a": [99]}, {"b": 999}, {"c": 999}))) == []
    assert list(faults("base", MODEL | {"hidden_size": 36, "head_dim": 8}, Asked())) == []
    assert list(faults("base", dict.fromkeys(MODEL, None) | {"vocab_size": True}, Asked({"a": [9]}, {"b": 9}))) == []


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        (
            {},
            Asked(layers={"refusal.layers": [1, 4, 9]}),
            "refusal.layers has 4, 9, and model base has 4 blocks, 0 to 3",
        ),
        ({}, Asked(vocabulary={"attacks.gcg.top_k": 101}), "attacks.gcg.top_k is 101, and model base has 100 tokens"),
        (
            {},
            Asked(context={"transfer.max_new_tokens": 64}),
            "transfer.max_new_tokens is 64, and the context of model base",
        ),
        ({"hidden_size": 30}, Asked(), "model base has 4 heads in a width of 30"),
        ({"hidden_size": 36}, Asked(), "model base has 4 heads in a width of 36"),  # nine each: no pairs to rotate
        ({"num_key_value_heads": 3}, Asked(), "model base has 4 heads for 3 of keys and values"),
    ],
)
def test_what_does_not(change, asked, said):
    (fault,) = faults("base", MODEL | change, asked)
    assert fault.startswith(said)
