"""Readouts and answers under interventions against plain Hugging Face forwards with pre-hooks, one prompt at a time.

The reference writes each mode out by hand (projectors from pseudo-inverses, no Gram-Schmidt) and knows neither prefixes,
restarts, batches nor `RowEdit`. Models are float64, yet norms compute in float32 as Hugging Face's do, edits in float32,
and logits are read in float32: agreement is that of float32 arithmetic, not of float64.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer

from safety_geometry.causal.cells import Carriers, make_unit
from safety_geometry.causal.controls import Source
from safety_geometry.causal.modes import MODES, interventions, mode_parts, orthonormal, without
from safety_geometry.causal.plan import Target, shared_units, target_unit
from safety_geometry.causal.readout import (
    clean_answers,
    clean_prompts,
    read_answer_kl,
    read_kl,
    read_log_odds,
    start_layer,
    tokens_of,
)
from safety_geometry.causal.sweep import Stream
from safety_geometry.models.chat import ChatFormat
from safety_geometry.models.generation import Completion, generate
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.openings import opening_ids, refusal_log_odds
from safety_geometry.models.restart import edited_prefix, restart
from safety_geometry.models.runner import Runner

PREFIX = [1, 40, 41, 42, 43]
PROMPTS = [
    [*PREFIX, 50, 51, 52],
    [*PREFIX, 60, 61, 62, 63, 64, 65, 66, 67, 68],  # longer than the window of six
    [*PREFIX, 70],
]
OPENINGS = [7, 90, 300]
LAYER_H, LAYER_R, D = 1, 2, 32
SCALE = {"H": 1.7, "R": 0.8, "HR": 1.2}
STRENGTHS = (-1.0, 0.5, 2.0)
ATOL = 1e-5  # float32 in edits, norms and logits; log-odds are of order 1 to 10 here, and 2e-6 was seen


def carriers(k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """h and r, orthonormal rows [k, d] each; not orthogonal to one another."""
    rng = np.random.default_rng(3)
    common = rng.standard_normal((k, D))
    return tuple(
        np.linalg.qr((rng.standard_normal((k, D)) + common).T)[0].T.astype(np.float32).astype(float) for _ in "hr"
    )


def cells(k: int = 1, layers=(LAYER_H, LAYER_R)) -> dict[tuple, tuple[Intervention, ...]]:
    """Every mode, family, scope and λ of the test; a subspace can be ablated only."""
    h, r = carriers(k)
    families = ("ablate", "steer") if k == 1 else ("ablate",)
    return {
        (mode, family, scope, strength): interventions(
            mode_parts(mode, h, r, *layers, family), family, strength, SCALE, scope
        )
        for mode, family, scope, strength in itertools.product(MODES, families, ("layer", "all_layers"), STRENGTHS)
    }


# --------------------------------------------------------------------------------------------------------- reference


def projector(rows: np.ndarray) -> np.ndarray:
    return np.linalg.pinv(rows) @ rows


def changes(mode, family, strength, k=1, layers=(LAYER_H, LAYER_R)) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """(layer, A [d, d], b [d]) of the mode's affine maps a -> a − A a + b, in the order in which they act."""
    h, r = carriers(k)
    rest_h, rest_r = h - h @ projector(r), r - r @ projector(h)
    rows, carrier, layer = {
        "h_only": ([h], ["H"], [layers[0]]), "r_only": ([r], ["R"], [layers[1]]),
        "h_perp_r": ([rest_h], ["H"], [layers[0]]), "r_perp_h": ([rest_r], ["R"], [layers[1]]),
        "h_plus_r": ([h, r], ["H", "R"], list(layers)),
    }[mode]  # fmt: skip
    if mode == "h_plus_r" and layers[0] == layers[1]:
        rows, carrier, layer = [np.concatenate([h, r]) if family == "ablate" else h + r], ["HR"], [layers[0]]
    found = []
    for q, name, where in zip(rows, carrier, layer, strict=True):
        if family == "ablate":
            a, b = strength * projector(q), np.zeros(D)
        else:
            a, b = np.zeros((D, D)), strength * SCALE[name] * q[0] / np.linalg.norm(q[0])
        found.append((where, torch.from_numpy(a), torch.from_numpy(b)))
    return found


@torch.no_grad()
def hooked(model, ids, maps, scope="layer") -> torch.Tensor:
    """Logits [T, V] of one prompt, all of its tokens edited."""
    hooks = []
    for layer, a, b in maps:

        def change(module, args, a=a, b=b):
            return (args[0] - args[0] @ a.T + b, *args[1:])

        blocks = model.model.layers if scope == "all_layers" else [model.model.layers[layer]]
        hooks += [block.register_forward_pre_hook(change) for block in blocks]
    try:
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()


def numbers(logits: torch.Tensor, clean: torch.Tensor) -> tuple[float, float]:
    """(log-odds, KL) by their definitions."""
    p, base = logits.double().softmax(-1), clean.double().softmax(-1)
    refusing = sum(p[i] for i in OPENINGS)
    return float(refusing.log() - (1 - refusing).log()), float((base * (base.log() - p.log())).sum())


def reference(model, names, k=1, layers=(LAYER_H, LAYER_R)) -> torch.Tensor:
    """[cells, prompts, 2]"""
    clean = [hooked(model, ids, [])[-1] for ids in PROMPTS]
    rows = []
    for mode, family, scope, strength in names:
        maps = changes(mode, family, strength, k, layers)
        rows.append([numbers(hooked(model, ids, maps, scope)[-1], c) for ids, c in zip(PROMPTS, clean, strict=True)])
    return torch.tensor(rows, dtype=torch.float64)


def readings(runner, found, batch_size, share=100) -> torch.Tensor:
    run = clean_prompts(runner, PROMPTS, range(runner.n_layers), share)
    both = (
        read_log_odds(runner, run, found, OPENINGS, batch_size),
        read_kl(runner, run, found, batch_size),
    )
    return torch.stack(both, -1)


# --------------------------------------------------------------------------------------------------------- readouts


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_of_one_batch_equals_its_own_hooked_forward(family, models64):
    """All cells on one family; on the others every fourth, which still has each mode, family, scope and strength."""
    runner = Runner(models64[family])
    for k in (1, 3):
        found = dict(list(cells(k).items())[:: 1 if family == "llama" else 4])
        assert all(len({name[i] for name in found}) == len({name[i] for name in cells(k)}) for i in range(4))
        want = reference(runner.model, found, k)
        assert want[..., 0].std(0).min() > 0.02 and want[..., 1].max() > 0.02  # the cells differ, and from clean
        got = readings(runner, list(found.values()), batch_size=256)
        torch.testing.assert_close(got, want, atol=ATOL, rtol=ATOL)
        some = list(found.values())[:: 7 if k == 1 else 5]
        small = readings(runner, some, batch_size=4, share=3)
        torch.testing.assert_close(small, want[:: 7 if k == 1 else 5], atol=ATOL, rtol=ATOL)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_both_carriers_at_one_layer(family, models64):
    """h_plus_r: the projector on span{h, r}, and the unit vector along h + r."""
    runner = Runner(models64[family])
    for k in (1, 3):
        found = {n: c for n, c in cells(k, (LAYER_R, LAYER_R)).items() if n[0] == "h_plus_r"}
        assert all(len(items) == 1 for items in found.values())
        want = reference(runner.model, found, k, (LAYER_R, LAYER_R))
        torch.testing.assert_close(readings(runner, list(found.values()), 8), want, atol=ATOL, rtol=ATOL)


def test_the_reference_tells_modes_from_their_neighbours(llama64):
    """Were the carriers orthogonal, or the layers one, half of the modes could be swapped without a test that fails."""
    h, r = carriers()
    assert abs(float(h[0] @ r[0])) > 0.2
    names = [(mode, "ablate", "layer", 1.0) for mode in MODES]
    want = reference(llama64, names)[..., 0]
    gaps = [(want[i] - want[j]).abs().max() for i, j in itertools.combinations(range(len(names)), 2)]
    assert min(gaps) > 100 * ATOL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_intervention_and_strength_zero_are_clean_bit_for_bit(dtype, models64):
    for family in FAMILIES:
        model = models64[family] if dtype == torch.float64 else make_model(family)
        runner, (h, r) = Runner(model), carriers()
        zero = [
            interventions(mode_parts(mode, h, r, LAYER_H, LAYER_R, kind), kind, 0.0, SCALE, scope)
            for mode in MODES
            for kind, scope in itertools.product(("ablate", "steer"), ("layer", "all_layers"))
        ]
        zero.append(())
        for share, batch_size, some in ((100, 64, zero), (0, 7, zero), (100, 1, [*zero[::6], ()])):
            run = clean_prompts(runner, PROMPTS, range(runner.n_layers), share)
            plain = refusal_log_odds(runner.logits(run.final), OPENINGS)
            odds = read_log_odds(runner, run, some, OPENINGS, batch_size)
            assert torch.equal(odds, plain.expand(len(some), -1)), (family, share, batch_size)
            assert not read_kl(runner, run, some, batch_size).any()


def test_order_batches_and_neighbours_do_not_matter(llama64):
    runner = Runner(llama64)
    found = list(cells().values())
    want = readings(runner, found, 64)
    order = np.random.default_rng(0).permutation(len(found))
    shuffled = readings(runner, [found[i] for i in order], 5, share=2)
    torch.testing.assert_close(shuffled, want[order], atol=ATOL, rtol=ATOL)


def test_one_window_of_held_prefixes_is_not_all_cells(llama64, monkeypatch):
    import safety_geometry.causal.readout as readout

    runner, found = Runner(llama64), list(cells().values())[:9]
    want = readings(runner, found, 64)
    monkeypatch.setattr(readout, "TOGETHER", 2)
    torch.testing.assert_close(readings(runner, found, 64), want, atol=ATOL, rtol=ATOL)


def test_progress_counts_prompts_times_cells(llama64):
    runner, found, seen = Runner(llama64), list(cells().values())[:5], []
    run = clean_prompts(runner, PROMPTS, range(4), 100)
    read_log_odds(runner, run, found, OPENINGS, 4, seen.append)
    assert sum(seen) == 5 * len(PROMPTS) and max(seen) <= 4


# ------------------------------------------------------------------------------------------------ KL over the answers


def answer_kl(model, ids, answer: Completion, maps, scope="layer") -> float:
    """Mean over the clean answer's tokens, and its end where it has one, of KL(clean ‖ edited): transformers' own logits
    of the whole text, token by token."""
    text = [*ids, *answer.ids]
    last = len(text) - 1 if answer.hit_limit else len(text)
    clean, other = (hooked(model, text, changed, scope).double().log_softmax(-1) for changed in ([], maps))
    values = [float((clean[t].exp() * (clean[t] - other[t])).sum()) for t in range(len(ids) - 1, last)]
    assert len(values) == len(answer.ids) + (not answer.hit_limit)
    return float(np.mean(values))


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_kl_over_the_clean_answers_is_that_of_transformers_logits(family, models64):
    runner = Runner(models64[family])
    answers = [  # one ends by itself, one is cut, one is only an end
        Completion((80, 81, 82), False), Completion((90, 91), True), Completion((), False),
    ]  # fmt: skip
    names = list(cells())[:: 6 if family == "llama" else 17]
    found = [cells()[name] for name in names]
    want = torch.tensor(
        [
            [
                answer_kl(runner.model, ids, answer, changes(mode, kind, strength), scope)
                for ids, answer in zip(PROMPTS, answers, strict=True)
            ]
            for mode, kind, scope, strength in names
        ],
        dtype=torch.float64,
    )
    assert want.min() > 1e-4 and want.std(0).min() > 1e-3
    for batch_size, share in ((64, 100), (2, 3), (1, 0)):
        answered = clean_answers(runner, PROMPTS, answers, range(runner.n_layers), share)
        got = read_answer_kl(runner, answered, [*found, ()], batch_size)
        torch.testing.assert_close(got[:-1], want, atol=ATOL, rtol=ATOL)
        assert not got[-1].any()


# ------------------------------------------------------------------------------------------------------ matched energy


@torch.no_grad()
def removed_energy(model, items) -> float:
    """Σ‖change‖² / Σ‖a‖² over the prompts' tokens behind the prefix, at the edited layers, from hooks on the model."""
    total = 0.0
    for layer in sorted({item.layer for item in items}):
        gone, there = 0.0, 0.0
        for ids in PROMPTS:
            a = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0][len(PREFIX) :]
            left = a
            for item in items:
                if item.layer == layer:
                    basis = item.basis.double()
                    left = left - item.strength * (left @ basis.T) @ basis
            gone, there = gone + float(((a - left) ** 2).sum()), there + float((a**2).sum())
        total += gone / there
    return total


@pytest.mark.parametrize("mode", MODES)
def test_controls_remove_the_energy_of_their_target_from_a_model(mode, llama64):
    """To 1e-6, by λ′ and by λ = 1 of the same directions: far from it."""
    runner = Runner(llama64)
    stream = Stream(clean_prompts(runner, PROMPTS, range(4), 100))

    def fit(position, layer):
        rng = np.random.default_rng([layer, -position])
        values = rng.standard_normal((24, D))
        values[:12] += 3 * rng.standard_normal(D)
        return values, 12

    sources = {c: Source(c, site, fit, (-2, -1), (-2, -1), 4) for c, site in (("H", (-2, 1)), ("R", (-1, 2)))}
    h, r = (source.directions(*source.site) for source in sources.values())
    at, target = Carriers(h, r, sources, stream, max_matched=100.0), Target("ablate", mode, 1.0)
    counts = {"random": 4, "covariance": 3, "shuffled": 3, "wrong_layer": 2, "wrong_position": 1}
    planned = [target_unit(target, counts), *shared_units([target], counts)]
    first, *controls = [cell for unit in planned for cell in make_unit(unit, at, 5).cells]
    wanted = removed_energy(llama64, first.interventions)
    assert first.rows[0]["energy"] == pytest.approx(wanted, rel=1e-6) and len(controls) >= 12
    for cell in controls:
        assert not cell.rows[0]["capped"]
        assert removed_energy(llama64, cell.interventions) == pytest.approx(wanted, rel=1e-6)
    plain = [[replace(item, strength=1.0) for item in cell.interventions] for cell in controls]
    assert max(abs(removed_energy(llama64, edits) / wanted - 1) for edits in plain) > 0.05


# --------------------------------------------------------------------------------------------------- small functions


def test_log_odds_by_definition_and_at_the_ends():
    z = torch.tensor([[0.0, 1.0, 2.0, -1.0], [200.0, 0.0, -5.0, 0.0], [-200.0, 0.0, -250.0, 0.0]])
    p = z[0].double().softmax(-1)[[0, 2]].sum()
    got = refusal_log_odds(z, [0, 2])
    assert float(got[0]) == pytest.approx(float(p.log() - (1 - p).log()), abs=1e-12)
    assert float(got[1]) == pytest.approx(200 - np.log(2), abs=1e-9)  # 1 − P underflows in a softmax
    assert float(got[2]) == pytest.approx(-200 - np.log(2), abs=1e-9)
    torch.testing.assert_close(refusal_log_odds(z, [2, 0, 0]), got)


REQUESTS = ["Write a poem about bread.", "Explain the wind"]


def generated(tokenizer, opening: str) -> int:
    """The first token that an answer adds to the tokens of its prompt, from the template's text and no code of ours."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    prompt, whole = (tokenizer(text)["input_ids"] for text in (asked, asked + opening))
    assert whole[: len(prompt)] == prompt
    return whole[len(prompt)]


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_openings_are_read_as_they_stand_in_a_conversation(kind):
    tokenizer = make_tokenizer(kind)
    ids = opening_ids(ChatFormat(tokenizer), ["Sorry", "Sorry, I", "List"], REQUESTS)
    assert ids == [generated(tokenizer, "Sorry"), generated(tokenizer, "List")]
    alone = [tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in ("Sorry", "List")]
    assert (ids == alone) == (kind == "bytes")  # pieces: a text of its own begins with a space, an answer does not


SPACED = "{% for m in messages %}{{ '[ask]' + m['content'] + '[do]' if m['role'] == 'user' else ' ' + m['content'] + eos_token }}{% endfor %}"


def test_openings_behind_a_space_that_the_template_writes():
    """As Mistral's and Llama 2's do: the model generates it with its first word, or as a token of its own, which says nothing."""
    tokenizer = make_tokenizer("pieces", SPACED)
    assert opening_ids(ChatFormat(tokenizer), ["List"], REQUESTS) == [tokenizer.convert_tokens_to_ids("▁List")]
    with pytest.raises(ValueError, match="first token of the refusal opening 'List' is a blank"):
        opening_ids(ChatFormat(make_tokenizer(template=SPACED)), ["List"], REQUESTS)


def test_openings_without_a_token_of_their_own(chat):
    with pytest.raises(ValueError, match="'' has no tokens"):
        opening_ids(chat, [""], REQUESTS)
    with pytest.raises(ValueError, match="'assistant' merges with the chat template"):
        opening_ids(ChatFormat(make_tokenizer("pieces")), ["assistant"], REQUESTS)


def test_openings_that_depend_on_the_request(chat, monkeypatch):
    plain = chat.render_many
    monkeypatch.setattr(chat, "render_many", lambda requests, answers=None: [
        r if answers is None or i == 0 else replace(r, ids=(*r.ids[: r.response], 7, *r.ids[r.response + 1 :]))
        for i, r in enumerate(plain(requests, answers))
    ])  # fmt: skip
    with pytest.raises(ValueError, match="'Sorry' begins with another token after another request"):
        opening_ids(chat, ["Sorry"], REQUESTS)


def test_start_layer():
    u = torch.eye(D)[:1]
    at = [Intervention("ablate", layer, u) for layer in (3, 1, None)]
    assert [start_layer(at[:1]), start_layer(at[:2]), start_layer(at)] == [3, 1, 0]


def test_tokens_of_are_those_after_the_prefix(llama64):
    runner = Runner(llama64)
    run = clean_prompts(runner, PROMPTS, [2], 100)
    with torch.no_grad():
        states = [
            llama64(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0] for ids in PROMPTS
        ]
    torch.testing.assert_close(tokens_of(run, 2), torch.cat([s[5:] for s in states]), atol=ATOL, rtol=ATOL)


# --------------------------------------------------------------------------------------------------------- geometry


def edited(runner, run, items) -> dict[int, torch.Tensor]:
    """Stream after the edit at the input of every block from the first one edited, [n, T, d]."""
    start, seen = start_layer(items), {}
    prefix, n = edited_prefix(runner, run, start, [items]), len(PROMPTS)
    with torch.inference_mode():
        restart(
            runner, run, start, torch.arange(n), [items] * n, prefix, torch.zeros(n, dtype=torch.long),
            tap=lambda layer, h: seen.update({layer: h}),
        )  # fmt: skip
    return seen


def test_what_ablation_takes_away_and_what_it_leaves(llama64):
    runner, (h, r) = Runner(llama64), carriers()
    run = clean_prompts(runner, PROMPTS, range(4), 100)

    def component(mode, layers, u, at, scope="layer"):
        items = interventions(mode_parts(mode, h, r, *layers), "ablate", 1.0, None, scope)
        return edited(runner, run, items)[at] @ torch.from_numpy(u[0])

    def clean(u, at):
        return run.stream[at] @ torch.from_numpy(u[0])

    near = {"atol": 3e-6, "rtol": 1e-6}
    for mode, own, other, at in (("h_perp_r", h, r, LAYER_H), ("r_perp_h", r, h, LAYER_R)):
        rest = without(own, other)
        assert abs(float(rest[0] @ other[0])) < 1e-12
        layers = (LAYER_H, LAYER_R)
        torch.testing.assert_close(component(mode, layers, rest, at), torch.zeros_like(clean(rest, at)), **near)
        torch.testing.assert_close(component(mode, layers, other, at), clean(other, at), **near)  # the other stays
    for u in (h, r):  # at one layer neither carrier is left; one after the other would leave some of h
        assert component("h_plus_r", (LAYER_R, LAYER_R), u, LAYER_R).abs().max() < 3e-6
        assert clean(u, LAYER_R).abs().max() > 0.1
    for mode, u in (("h_only", h), ("r_only", r)):
        for at in range(4):
            assert component(mode, (LAYER_H, LAYER_R), u, at, "all_layers").abs().max() < 3e-6
    after = component("h_only", (LAYER_H, LAYER_R), h, LAYER_H + 1)  # at one layer only: later blocks write it again
    assert after.abs().max() > 1e-3


def test_steering_both_at_one_layer_adds_a_vector_of_the_stated_length(llama64):
    runner, (h, r) = Runner(llama64), carriers()
    run = clean_prompts(runner, PROMPTS, [LAYER_R], 100)
    items = interventions(mode_parts("h_plus_r", h, r, LAYER_R, LAYER_R, "steer"), "steer", -2.0, SCALE)
    added = edited(runner, run, items)[LAYER_R] - run.stream[LAYER_R]
    want = -2.0 * SCALE["HR"] * torch.from_numpy((h + r)[0] / np.linalg.norm(h + r))
    torch.testing.assert_close(added, want.expand_as(added), atol=3e-6, rtol=1e-6)


def test_parts_of_modes_and_their_errors():
    h, r = carriers(3)
    assert [(p.carrier, p.layer, p.basis.shape) for p in mode_parts("h_plus_r", h, r, 1, 2)] == [
        ("H", 1, (3, D)), ("R", 2, (3, D)),
    ]  # fmt: skip
    (both,) = mode_parts("h_plus_r", h, r, 2, 2)
    assert both.carrier == "HR" and both.basis.shape == (6, D)
    np.testing.assert_allclose(both.basis @ both.basis.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(projector(both.basis), projector(np.concatenate([h, r])), atol=1e-10)
    (rest,) = mode_parts("h_perp_r", h, r, 1, 2)
    assert np.abs(rest.basis @ r.T).max() < 1e-12 and rest.layer == 1
    np.testing.assert_allclose(projector(rest.basis), projector(h - h @ projector(r)), atol=1e-10)
    np.testing.assert_allclose(orthonormal(-3.0 * h[:1]), -h[:1], atol=1e-12)  # the sign is kept
    assert orthonormal(np.concatenate([h, h[::-1]])).shape == (3, D)  # dependent rows go
    with pytest.raises(ValueError, match="steering adds one direction"):
        mode_parts("h_only", h, r, 1, 2, "steer")
    with pytest.raises(ValueError, match="same directions"):
        mode_parts("h_perp_r", h[:1], -h[:1], 1, 2)
    with pytest.raises(ValueError, match=r"'h_minus_r'.*h_only"):
        mode_parts("h_minus_r", h, r, 1, 2)
    with pytest.raises(ValueError, match="'everywhere'"):
        interventions((rest,), "ablate", 1.0, None, "everywhere")


# ------------------------------------------------------------------------------------------------------- generation


@torch.no_grad()
def hooked_answer(model, ids, maps, scope, limit) -> Completion:
    """Greedy tokens from the whole growing sequence, without a cache."""
    found = list(ids)
    for _ in range(limit):
        found.append(int(hooked(model, found, maps, scope)[-1].argmax()))
    return Completion(tuple(found[len(ids) :]), True)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_target_and_controls_decode_together_as_each_does_alone(family, models64):
    model = models64[family]
    runner, limit = Runner(model), 4
    names = [
        ("h_plus_r", "ablate", "layer", 2.0), ("h_plus_r", "steer", "layer", 2.0), ("h_perp_r", "steer", "layer", -1.0),
        ("r_perp_h", "ablate", "all_layers", 0.5), ("r_only", "steer", "all_layers", 2.0),
    ]  # fmt: skip
    found = cells()
    chosen = [*(found[name] for name in names), ()]  # the last is clean
    want = [
        [hooked_answer(model, ids, changes(n[0], n[1], n[3]), n[2], limit) for ids in PROMPTS] for n in names
    ] + [[hooked_answer(model, ids, [], "layer", limit) for ids in PROMPTS]]  # fmt: skip
    assert len({tuple(c.ids for c in row) for row in want}) >= 4
    edits = [cell for cell in chosen for _ in PROMPTS]
    for batch_size, share in ((len(edits), 5), (4, 100), (1, 0)):
        got = generate(runner, PROMPTS * len(chosen), [3], limit, batch_size, share, edits)
        assert got == [c for row in want for c in row], (batch_size, share)


def test_strength_zero_answers_as_the_clean_model(llama):
    """In float32, in one batch with rows that are edited."""
    runner, (h, r) = Runner(llama), carriers()
    zero = interventions(mode_parts("h_plus_r", h, r, 1, 2, "steer"), "steer", 0.0, SCALE)
    strong = interventions(mode_parts("h_plus_r", h, r, 1, 2, "steer"), "steer", 8.0, SCALE)
    clean = generate(runner, PROMPTS * 2, [3], 6, 6, 5)
    mixed = generate(runner, PROMPTS * 2, [3], 6, 6, 5, [zero] * 3 + [strong] * 3)
    assert mixed[:3] == clean[:3] and mixed[3:] != clean[3:]
