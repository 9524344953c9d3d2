"""Training in segments equals training in one go, bit for bit; batches and shared prefixes change nothing."""

import copy
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from conftest import REQUESTS, VOCABULARY, make_model

from safety_geometry.attacks.gcg.search import GCGConfig
from safety_geometry.attacks.gcg.suffix import allowed_tokens
from safety_geometry.models.loading import add_lora
from safety_geometry.models.runner import Runner
from safety_geometry.training.loop import TrainConfig, Trainer, clean_order, cosine_rate, micro_batches
from safety_geometry.training.pool import Pool, PoolConfig, adversarial_rows, clean_rows

CONFIG = TrainConfig(learning_rate=5e-3, schedule_steps=10, rows=3, micro_rows=2, weight_decay=0.1, clip=1.0)
POOL = PoolConfig(size=4, per_step=2, reset_every=3, reset_share=0.5, refresh=True)
GCG = GCGConfig(steps=1, width=4, top_k=20, suffix_length=3, batch_size=4)
BEHAVIOURS = [{"id": f"b{i}", "prompt": f"List {i} warm kitchens", "target": f"Sure, here are {i}"} for i in range(8)]
CLEAN = [{"prompt": q, "response": a} for q, a in zip(REQUESTS, ["Warm", "In one line", "a list of ideas", "x", "The sea and the wind"], strict=True)]  # fmt: skip
TARGETS = ["q_proj", "v_proj"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small():
    return make_model(layers=2)


def make(model, chat, tokenizer, pool=POOL, config=CONFIG, seed=1, dropout=0.2, double=False, b=None) -> Trainer:
    model = copy.deepcopy(model)
    lora = add_lora(model, 4, 8, dropout, TARGETS, seed)
    if double:
        lora = lora.double()
    if b is not None:  # B starts at zero; give it values so that every gradient is visible
        generator = torch.Generator().manual_seed(b)
        for name, p in lora.named_parameters():
            if "lora_B" in name:
                p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
    made = None if pool is None else Pool(pool, GCG, BEHAVIOURS, chat, seed)
    rows = clean_rows(chat, CLEAN, 100)
    return Trainer(lora, Runner(model), chat, config, rows, made, allowed_tokens(tokenizer, VOCABULARY + 40), seed)


def run(trainer: Trainer, to: int) -> list[dict]:
    log = []
    trainer.advance(to, lambda line: log.append(asdict(line)))
    return log


def carried(trainer: Trainer, make_new) -> Trainer:
    """The trainer of the next process: everything goes through safetensors and JSON."""
    from safetensors.torch import load, save

    tensors, rest = trainer.state()
    torch.manual_seed(12345)  # whatever the new process did before
    new = make_new()
    new.restore(load(save(tensors)), json.loads(json.dumps(rest)))
    return new


def equal(a: list[dict], b: list[dict]) -> bool:
    return repr(a) == repr(b)  # NaN equals NaN, and floats to the last bit


@pytest.mark.parametrize("pool", [POOL, replace(POOL, refresh=False), None], ids=["dynamic", "frozen", "sft"])
def test_four_segments_equal_one_run_bit_for_bit(small, chat, tokenizer, pool):
    def new():
        return make(small, chat, tokenizer, pool)

    whole = new()
    log = run(whole, 6)
    part, lines = new(), []
    for to in (2, 3, 5, 6):
        lines += run(part, to)
        if to < 6:
            part = carried(part, new)
    assert equal(lines, log) and [line["step"] for line in log] == list(range(1, 7))
    (ours, rest), (theirs, other) = part.state(), whole.state()
    assert rest == other and rest["step"] == 6 and rest["clean_cursor"] == 18
    assert set(ours) == set(theirs)
    kinds = {name.split(".")[0] + "." + name.split(".")[1] for name in ours if name.startswith("optimiser")}
    assert kinds == {"optimiser.exp_avg", "optimiser.exp_avg_sq", "optimiser.step"}
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    columns = [(line["cases"], line["updates_min"], line["updates_max"]) for line in log]
    if pool is None:
        assert set(columns) == {(None, None, None)}
    else:
        known = {row["id"] for row in BEHAVIOURS}
        assert all(len(ids := cases.split()) == 2 and set(ids) <= known for cases, *_ in columns)
        assert columns[-1][1:] == (min(u := [c["updates"] for c in rest["pool"]]), max(u))
        assert (columns[-1][2] > 0) == pool.refresh
        assert rest["pool"] == [asdict(c) for c in whole.pool.cases]
        assert {c.born for c in whole.pool.cases} != {0}  # a reset has fired
        assert any(c.updates for c in whole.pool.cases) == pool.refresh
    start = new().state()[0]
    assert any(not torch.equal(ours[n], start[n]) for n in start if n.startswith("adapter"))


def test_dropout_is_on_and_seeded_by_step(small, chat, tokenizer):
    """Guards the test above: without dropout the numbers are others."""
    logs = []
    for dropout, before in ((0.2, 5), (0.2, 6), (0.0, 5)):
        trainer = make(small, chat, tokenizer, None, dropout=dropout, b=3)
        torch.manual_seed(before)  # whatever drew from the global stream before plays no part
        logs.append(run(trainer, 2))
    assert equal(logs[0], logs[1]) and not equal(logs[0], logs[2])


def test_sft_and_r2d2_see_the_same_clean_rows(small, chat, tokenizer, monkeypatch):
    seen = {}
    for name, pool in (("sft", None), ("r2d2", POOL), ("frozen", replace(POOL, refresh=False))):
        trainer, taken = make(small, chat, tokenizer, pool), []
        original = trainer._clean_backward
        monkeypatch.setattr(trainer, "_clean_backward", lambda rows, o=original, t=taken: (t.append(rows), o(rows))[1])
        run(trainer, 3)
        seen[name] = taken
    assert seen["sft"] == seen["r2d2"] == seen["frozen"] and len(seen["sft"]) == 3
    order = [i for step in range(5) for i in clean_order(5, 3, step, 1)]
    assert [sorted(order[k : k + 5]) for k in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3  # every pass sees every row once
    assert order[:5] != order[5:10] and order != [i for step in range(5) for i in clean_order(5, 3, step, 2)]


def gradients(trainer: Trainer) -> tuple[dict, dict]:
    """The log of the first step and the gradients it was made of (before they are used up)."""
    kept = {}

    def clip(parameters, limit):
        kept.update({name: p.grad.clone() for name, p in trainer.parameters.items()})
        return torch.zeros(())

    original, torch.nn.utils.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_, clip
    try:
        log = run(trainer, 1)[0]
    finally:
        torch.nn.utils.clip_grad_norm_ = original
    return log, kept


def test_passes_are_packed_by_rows_or_by_tokens_with_padding():
    lengths = [3, 5, 5, 9, 40, 2]
    assert micro_batches(lengths, 2) == [[0, 1], [2, 3], [4, 5]]
    assert micro_batches(lengths, 1, 20) == [[0, 1, 2], [3], [4], [5]]  # 4 × 9 are too many, and a long row is alone
    assert micro_batches(lengths, 1, 10**6) == [[0, 1, 2, 3, 4, 5]]
    assert micro_batches([], 2) == [] == micro_batches([], 2, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"share_prefix": False},
        {"micro_rows": 1},
        {"micro_rows": 50},
        {"share_prefix": False, "micro_rows": 3},
        {"micro_tokens": 1},
        {"micro_tokens": 90},
        {"micro_tokens": 10_000},
    ],
)
def test_batches_and_shared_prefixes_change_nothing(small, chat, tokenizer, change):
    def step(config):
        return gradients(make(small, chat, tokenizer, replace(POOL, refresh=False), config, dropout=0.0, double=True, b=3))  # fmt: skip

    log, kept = step(CONFIG)
    other, grads = step(replace(CONFIG, **change))
    for name in ("clean", "away", "toward", "loss"):
        assert log[name] == pytest.approx(other[name], rel=1e-5), name
    assert kept and max(float(g.abs().max()) for g in kept.values()) > 1e-3
    for name, g in kept.items():
        torch.testing.assert_close(grads[name], g, rtol=1e-4, atol=1e-6 + 1e-5 * float(g.abs().max()), msg=name)


def test_loss_and_gradient_equal_a_hand_written_step(small, chat, tokenizer):
    """One row at a time through the model's own forward, the loss written out, in float64."""
    pool = replace(POOL, refresh=False, away_threshold=-8.0)
    trainer = make(small, chat, tokenizer, pool, dropout=0.0, double=True, b=3)
    log, kept = gradients(trainer)

    again = make(small, chat, tokenizer, pool, dropout=0.0, double=True, b=3)
    taken = again.pool.step(0, again.runner, again.allowed)
    away, toward = adversarial_rows(chat, taken.suffixes, pool)
    clean = [again.clean[i] for i in clean_order(5, 3, 0, 1)]

    def log_p(row):
        z = again.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, row.label_from - 1 : -1]
        return z.log_softmax(-1).gather(1, torch.tensor(row.ids[row.label_from :])[:, None])[:, 0]

    again.model.eval()
    clean_loss = -torch.cat([log_p(r) for r in clean]).mean()  # over all tokens of the step
    toward_loss = torch.stack([-log_p(r).mean() for r in toward]).mean()
    away_loss = torch.stack([
        -torch.where(lp > -8.0, torch.log1p(-lp.exp()), torch.zeros(())).mean() for lp in map(log_p, away)
    ]).mean()  # fmt: skip
    (clean_loss + 0.5 * away_loss + 0.5 * toward_loss).backward()
    assert float(away_loss.detach()) > 0
    for name, value in (("clean", clean_loss), ("away", away_loss), ("toward", toward_loss)):
        assert log[name] == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-6), name
    assert log["loss"] == pytest.approx(log["clean"] + 0.5 * log["away"] + 0.5 * log["toward"], rel=1e-9)
    for name, g in kept.items():
        want = again.parameters[name].grad
        torch.testing.assert_close(g, want, rtol=1e-3, atol=1e-5 * float(want.abs().max()) + 1e-7, msg=name)


def test_without_the_away_term(small, chat, tokenizer):
    pools = [replace(POOL, refresh=False, away=away, away_threshold=-9.0) for away in (True, False)]
    steps = [gradients(make(small, chat, tokenizer, p, dropout=0.0, b=3)) for p in pools]
    (with_away, g), (without, h) = steps
    assert without["loss"] == pytest.approx(without["clean"] + 0.5 * without["toward"], rel=1e-6)
    assert with_away["away"] == pytest.approx(without["away"], rel=1e-6)  # still logged
    assert any(not torch.equal(g[name], h[name]) for name in g)
    zero = replace(CONFIG, away_weight=0.0)
    _, other = gradients(make(small, chat, tokenizer, pools[0], zero, dropout=0.0, b=3))
    assert all(torch.equal(h[name], other[name]) for name in h)


def test_schedule_and_optimiser(small, chat, tokenizer):
    assert cosine_rate(0, 2.0, 10) == 2.0
    assert cosine_rate(5, 2.0, 10) == pytest.approx(1.0)
    assert cosine_rate(10, 2.0, 10) == cosine_rate(99, 2.0, 10) == 0.0
    trainer = make(small, chat, tokenizer, None)
    log = run(trainer, 10)
    before = [p.detach().clone() for p in trainer.parameters.values()]
    log += run(trainer, 11)
    assert all(torch.equal(p, q) for p, q in zip(trainer.parameters.values(), before, strict=True))  # at rate 0
    assert [line["lr"] for line in log] == [cosine_rate(k, 5e-3, 10) for k in range(11)]
    assert all(math.isnan(line["away"]) for line in log) and log[0]["grad_norm"] > 0
    assert log[-2]["loss"] < log[0]["loss"]
    frozen = {name for name, p in trainer.model.named_parameters() if not p.requires_grad}
    assert frozen and not frozen & set(trainer.parameters) and all("lora" in name for name in trainer.parameters)


def test_only_the_adapter_moves(small, chat, tokenizer):
    trainer = make(small, chat, tokenizer)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    run(trainer, 2)
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(trainer.parameters)


def test_restore_refuses_what_does_not_fit(small, chat, tokenizer):
    trainer = make(small, chat, tokenizer)
    run(trainer, 1)
    tensors, rest = trainer.state()
    with pytest.raises(ValueError, match="is of seed 1, this run has seed 2"):
        make(small, chat, tokenizer, seed=2).restore(tensors, rest)
    fewer = {k: v for k, v in tensors.items() if not k.endswith("layers.0.self_attn.q_proj.lora_A.default.weight")}
    with pytest.raises(ValueError, match="other parameters"):
        make(small, chat, tokenizer).restore(fewer, rest)
    with pytest.raises(ValueError, match="4 cases and the config asks for 3"):
        make(small, chat, tokenizer, replace(POOL, size=3)).restore(tensors, rest)
    with pytest.raises(ValueError, match="pool"):
        make(small, chat, tokenizer, None).restore(tensors, rest)
    with pytest.raises(ValueError, match="pool"):
        make(small, chat, tokenizer).restore(tensors, rest | {"pool": None})


def test_errors(small, chat, tokenizer):
    with pytest.raises(ValueError, match="5 clean rows cannot fill a step of 6"):
        run(make(small, chat, tokenizer, None, replace(CONFIG, rows=6)), 1)
    with pytest.raises(FloatingPointError, match=r"at step 1; lower train.learning_rate"):
        trainer = make(small, chat, tokenizer, None)
        next(iter(trainer.parameters.values())).data.fill_(math.nan)
        run(trainer, 1)
