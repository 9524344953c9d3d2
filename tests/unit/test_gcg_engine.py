"""Several cases in one batch: alone equals together, cached equals plain, resumed equals one go; and the options."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import FAMILIES, REQUESTS, VOCABULARY

from safety_geometry.attacks.gcg import scoring as gcg_scoring
from safety_geometry.attacks.gcg import screening
from safety_geometry.attacks.gcg import search as gcg
from safety_geometry.attacks.gcg.batches import OVERHEAD, BatchSize, plan
from safety_geometry.attacks.gcg.candidates import echo_phrase, merged, propose
from safety_geometry.attacks.gcg.losses import CacheError, mellowmax, uncached_loss
from safety_geometry.attacks.gcg.scoring import check_cache, draft, look, prefix, score
from safety_geometry.attacks.gcg.screening import Probe, scorer, screen, spearman
from safety_geometry.attacks.gcg.search import GCGConfig, attack, attack_many
from safety_geometry.attacks.gcg.suffix import allowed_tokens, initial_suffix
from safety_geometry.models.memory import LessMemory
from safety_geometry.models.runner import Runner

SIZE = VOCABULARY + 40
TARGETS = ["Sure, here is a list", "Sure", "Sure, here is a short poem about the sea"]
CONFIG = GCGConfig(steps=4, width=20, top_k=40, suffix_length=5, batch_size=9)
SEEDS = [5, 6, 7]


@pytest.fixture(scope="module")
def allowed(tokenizer):
    return allowed_tokens(tokenizer, SIZE)


@pytest.fixture(scope="module")
def cases(chat):
    """Different lengths of prefix, suffix and target."""
    lengths = (5, 3, 7)
    return [initial_suffix(chat, q, t, " !", n) for q, t, n in zip(REQUESTS, TARGETS, lengths, strict=False)]


def looked(runner, cases, at=None, alpha=None):
    return look(runner, cases, [prefix(runner, s) for s in cases], BatchSize(64), alpha, kept_layer=at)


def several(current, allowed, width=20, seed=0):
    """Candidates that differ from the current suffix in one to three tokens."""
    generator = torch.Generator().manual_seed(seed)
    config = replace(CONFIG, width=width)
    first, second = (propose(current.gradient, current.suffix, config, allowed, generator) for _ in range(2))
    changed = second != torch.tensor(current.suffix.tokens)
    first[::2][changed[::2]] = second[::2][changed[::2]]
    return first


@pytest.mark.parametrize("family", FAMILIES)
def test_together_and_cached_equal_alone_and_plain(family, models64, cases, allowed):
    """Losses of padded, mixed batches against a plain forward of each whole conversation, sliding windows included."""
    runner = Runner(models64[family])
    together, alone = looked(runner, cases), [looked(runner, [s])[0] for s in cases]
    candidates = [several(c, allowed, width=10) for c in together]
    plain = [
        [uncached_loss(runner, c.suffix.changed(tokens, "", math.nan)) for tokens in own.tolist()]
        for c, own in zip(together, candidates, strict=True)
    ]
    for rows in (60, 7):
        found = score(runner, together, candidates, BatchSize(rows), None)
        for scored, losses in zip(found, plain, strict=True):
            assert scored.losses.tolist() == pytest.approx(losses, abs=2e-5)
    for a, b, suffix in zip(together, alone, cases, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=2e-5) == pytest.approx(uncached_loss(runner, suffix), abs=2e-5)
        torch.testing.assert_close(a.gradient, b.gradient, atol=1e-6, rtol=1e-4)
        assert {k.shape[2] for pair in a.past.values() for k in pair} == {len(suffix.ids) - 1}


def test_only_what_follows_the_changed_token_is_run(llama64, cases, allowed, monkeypatch):
    runner, seen = Runner(llama64), []
    (current,) = looked(runner, cases[:1])
    own = propose(current.gradient, current.suffix, CONFIG, allowed, torch.Generator().manual_seed(0))
    blocks = runner.blocks
    monkeypatch.setattr(runner, "blocks", lambda h, **options: seen.append(h.shape[:2]) or blocks(h, **options))
    monkeypatch.setitem(OVERHEAD, "cpu", 0)
    (scored,) = score(runner, [current], [own], BatchSize(64), None)
    suffix = current.suffix
    rest = len(suffix.ids) - 1
    assert sorted(map(tuple, seen)) == sorted((4, rest - p) for p in range(suffix.start, suffix.stop))
    assert scored.tokens == sum(b * t for b, t in seen)


def test_a_case_does_not_depend_on_the_others(llama64, chat, cases, allowed):
    runner = Runner(llama64)
    together = attack_many(runner, chat, cases, CONFIG, allowed, SEEDS)
    for suffix, seed, result in zip(cases, SEEDS, together, strict=True):
        alone = attack(runner, chat, suffix, CONFIG, allowed, seed)
        assert alone.suffix.ids == result.suffix.ids and alone.scored == result.scored
        assert alone.losses == pytest.approx(result.losses, abs=1e-5)
    turned = attack_many(runner, chat, cases[::-1], CONFIG, allowed, SEEDS[::-1])
    assert [r.suffix.ids for r in turned] == [r.suffix.ids for r in together[::-1]]
    assert attack_many(runner, chat, [], CONFIG, allowed, []) == []
    with pytest.raises(ValueError, match="3 suffixes and 1 seeds"):
        attack_many(runner, chat, cases, CONFIG, allowed, [1])


OPTIONS = {
    "plain": {},
    "all": {"merge": 4, "buffer": 2, "mellowmax": 2.0, "stop_loss": 0.01},
    "probe": {"probe": {"layers": 2, "share": 4, "reduction": 2}, "merge": 3},
    "gradient": {"probe": {"layers": 2, "share": 4, "reduction": 2, "draft": "gradient"}, "merge": 3},
    "bfloat16": {"probe": {"draft": "bfloat16", "reduction": 2}, "merge": 3},
    "few": {"width": 2},
    "echo": {"echo": 4, "merge": 3, "probe": {"layers": 2, "share": 4, "reduction": 2}},
    "momentum": {"momentum": 0.6, "lsgm": 0.5, "buffer": 2},
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resumed_equals_one_go(llama, chat, cases, allowed, options):
    runner, states = Runner(llama), []
    config = GCGConfig(**(vars(CONFIG) | options))
    two = attack_many(runner, chat, cases, replace(config, steps=2, stop_loss=0.0), allowed, SEEDS)
    config = replace(config, stop_loss=min(r.losses[-1] for r in two))  # one case ends before the others
    whole = attack_many(runner, chat, cases, config, allowed, SEEDS, save=states.append)
    lengths = [len(r.losses) for r in whole]
    assert min(lengths) <= 3 < max(lengths) == len(states) + 1
    for state in states[:-1]:
        torch.manual_seed(99)
        again = attack_many(Runner(llama), chat, cases, config, allowed, SEEDS, state=json.loads(json.dumps(state)))
        assert again == whole
    assert attack_many(runner, chat, cases, config, allowed, SEEDS, state=states[-1]) == whole  # nothing left to do
    attack_many(runner, chat, cases, replace(config, steps=2), allowed, SEEDS, save=states.append)
    assert attack_many(runner, chat, cases, config, allowed, SEEDS, state=states[-1]) == whole  # more steps than then
    for other in ({"seeds": [5, 6, 8]}, {"config": replace(config, top_k=3)}, {"suffixes": cases[::-1]}):
        given = {"suffixes": cases, "config": config, "seeds": SEEDS} | other
        with pytest.raises(ValueError, match="state is of another attack"):
            attack_many(runner, chat, given["suffixes"], given["config"], allowed, given["seeds"], state=states[0])


def test_plan():
    lengths = torch.tensor([5, 30, 30, 7, 5, 29, 6])
    assert plan(lengths, 10, 0) == [[1, 2], [5], [3], [6], [0, 4]]
    assert plan(lengths, 10, 5) == [[1, 2, 5], [3, 6, 0, 4]]
    assert plan(lengths, 10, 1000) == [[1, 2, 5, 3, 6, 0, 4]]
    assert plan(lengths, 3, 3) == [[1, 2, 5], [3, 6], [0, 4]]
    assert plan(torch.full((10,), 4), 4, 50) == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert plan(torch.tensor([]), 4, 50) == []


def test_batch_size_is_halved_on_out_of_memory_and_remembered(llama64, cases, allowed):
    done, tries = [], []

    def compute(rows):
        tries.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("full")
        done.extend(rows)

    batch = BatchSize(16, adaptive=True)
    batch.run(compute, range(14))
    assert done == list(range(14)) and batch.rows == 3 and tries == [14, 7, 3, 3, 3, 3, 2]
    batch.run(compute, range(6))
    assert tries[-2:] == [3, 3]
    with pytest.raises(torch.OutOfMemoryError):
        BatchSize(16).run(compute, range(14))  # a constant elsewhere
    with pytest.raises(torch.OutOfMemoryError):
        BatchSize(16, adaptive=True).run(lambda rows: compute([0] * 9), range(14))
    assert BatchSize.on(torch.device("cuda"), 8).adaptive and not BatchSize.on(torch.device("cpu"), 8).adaptive


def test_a_pass_with_its_graph_shrinks_by_itself(llama64, cases, allowed):
    """Memory ends at two rows with a graph: scoring goes on with all of its rows."""

    class Graphs(Runner):
        def blocks(self, h, **options):
            if torch.is_grad_enabled() and h.requires_grad and len(h) > 2:
                raise torch.OutOfMemoryError("full")
            return super().blocks(h, **options)

    runner, batch = Graphs(llama64), BatchSize(16, adaptive=True)
    own = cases[:1] * 4
    prefixes = [prefix(runner, s) for s in own]
    with pytest.warns(LessMemory, match="GCG's gradients"):
        found = look(runner, own, prefixes, batch, None)
    assert (batch.rows, batch.looks.asked, batch.looks.rows) == (16, 4, 2)
    want = look(Runner(llama64), own, prefixes, BatchSize(16), None)
    for mine, theirs in zip(found, want, strict=True):
        torch.testing.assert_close(mine.gradient, theirs.gradient)


def test_a_candidate_without_a_loss_costs_the_others_nothing(llama, chat, cases, allowed, monkeypatch):
    """Whatever the model gives for one candidate, the step keeps the best of the others."""
    config = GCGConfig(steps=2, width=12, top_k=20, suffix_length=len(cases[0].tokens), batch_size=32)
    whole = attack(Runner(llama), chat, cases[0], config, allowed, 1)
    assert whole.losses[-1] < whole.losses[0]
    honest = screening.score

    def broken(*arguments, **options):
        found = honest(*arguments, **options)
        for own in found:
            own.losses[own.losses.argmax()] = math.nan
        return found

    monkeypatch.setattr(screening, "score", broken)
    found = attack(Runner(llama), chat, cases[0], config, allowed, 1)
    assert found.losses == whole.losses and found.suffix.ids == whole.suffix.ids
    assert found.scored == whole.scored - 2  # one in each step
    monkeypatch.setattr(
        screening, "score", lambda *a, **k: [replace(s, losses=s.losses * math.nan) for s in honest(*a, **k)]
    )
    none = attack(Runner(llama), chat, cases[0], config, allowed, 1)
    assert none.losses == [whole.losses[0]] * 3 and none.scored == 0


def test_mellowmax():
    x, real = torch.tensor([[1.0, 2.0, 4.0], [3.0, 1.0, 99.0]]), torch.tensor([[True] * 3, [True, True, False]])
    want = [math.log((math.exp(2) + math.exp(4) + math.exp(8)) / 3) / 2, math.log((math.exp(6) + math.exp(2)) / 2) / 2]
    assert mellowmax(x, 2.0, real).tolist() == pytest.approx(want, rel=1e-6)
    assert mellowmax(x, 1e-3, real).tolist() == pytest.approx([7 / 3, 2.0], rel=1e-2)
    assert mellowmax(x, 100.0, real).tolist() == pytest.approx([4.0, 3.0], rel=1e-2)


def test_attack_under_mellowmax(llama64, chat, cases, allowed):
    runner, suffix = Runner(llama64), cases[0]
    result = attack(runner, chat, suffix, replace(CONFIG, mellowmax=3.0), allowed, 1)
    labels = torch.tensor(suffix.ids[suffix.target_start :])

    def each(ids):
        with torch.no_grad():
            z = llama64(input_ids=torch.tensor([ids]), use_cache=False).logits[0, suffix.target_start - 1 : -1]
        return torch.nn.functional.cross_entropy(z, labels, reduction="none")

    assert result.losses[0] == pytest.approx(math.log(each(suffix.ids).mul(3).exp().mean()) / 3, abs=1e-5)
    assert result.suffix.loss == pytest.approx(math.log(each(result.suffix.ids).mul(3).exp().mean()) / 3, abs=1e-5)
    assert result.loss == pytest.approx(float(each(result.suffix.ids).mean()), abs=1e-5) != result.suffix.loss


def test_merged_candidates(llama64, chat, cases, allowed):
    runner, suffix = Runner(llama64), cases[0]
    base = suffix.tokens
    rows = torch.tensor([base] * 6)
    rows[0, 2], rows[1, 2], rows[2, 0], rows[3, 4], rows[4, 1], rows[5, 3] = 50, 51, 52, 53, 54, 55
    losses = torch.tensor([0.7, 0.5, 0.6, 0.9, 1.2, 0.8])
    got = merged(suffix, rows, losses, 1.0, 3).tolist()
    assert got == [[52, base[1], 51, base[3], base[4]], [52, base[1], 51, 55, base[4]]]
    assert len(merged(suffix, rows, losses, 1.0, 9)) == 3  # position 1 raises the loss
    assert merged(suffix, rows, losses, 0.55, 9).shape == (0, 5)
    one = attack(runner, chat, suffix, replace(CONFIG, steps=1), allowed, 1)
    two = attack(runner, chat, suffix, replace(CONFIG, steps=1, merge=4), allowed, 1)
    assert one.scored < two.scored <= one.scored + 3 and two.loss <= one.loss
    assert sum(a != b for a, b in zip(base, two.suffix.tokens, strict=True)) > 1


def test_echoes_are_runs_of_the_target(llama, chat, cases, allowed):
    suffix, config = cases[0], replace(CONFIG, echo=12)
    everything = torch.ones_like(allowed)
    phrase = echo_phrase(chat, suffix, everything)
    assert chat.tokenizer.decode(phrase).strip() == suffix.target
    assert echo_phrase(chat, suffix, everything & (torch.arange(len(allowed)) != phrase[-1])) == []
    gradient, longest = torch.zeros(len(suffix.tokens), len(allowed)), min(len(phrase), len(suffix.tokens))

    def rows(config, phrase):
        return propose(gradient, suffix, config, everything, torch.Generator().manual_seed(3), phrase)

    plain, both = rows(CONFIG, phrase), rows(config, phrase)
    assert plain.equal(both[: len(plain)]) and plain.equal(rows(config, []))  # the others are drawn as they were
    echoes = both[len(plain) :].tolist()
    assert 2 <= len(echoes) <= 12 and len({*map(tuple, echoes), suffix.tokens}) == len(echoes) + 1
    lengths = []
    for row in echoes:
        changed = [i for i, (a, b) in enumerate(zip(row, suffix.tokens, strict=True)) if a != b]
        run = row[changed[0] : changed[-1] + 1]
        assert any(run == phrase[i : i + len(run)] for i in range(len(phrase)))
        lengths.append(len(run))
    assert max(lengths) == longest > min(lengths)


def test_echoes_are_scored_beside_the_others_and_not_merged(llama64, chat, cases, allowed):
    runner, suffix = Runner(llama64), cases[0]
    row = torch.tensor([suffix.tokens] * 3)
    row[0, :3], row[1, 1], row[2, 3] = 50, 51, 52
    assert merged(suffix, row, torch.tensor([0.1, 0.2, 0.3]), 1.0, 4).tolist() == [
        [suffix.tokens[0], 51, suffix.tokens[2], 52, *suffix.tokens[4:]]
    ]
    plain = attack(runner, chat, suffix, replace(CONFIG, steps=1), allowed, 1)
    both = attack(runner, chat, suffix, replace(CONFIG, steps=1, echo=8, merge=4), allowed, 1)
    assert plain.scored < both.scored and both.loss <= plain.loss


def test_buffer_takes_turns(llama, chat, cases, allowed):
    def case(losses):
        return [replace(cases[0], ids=(*cases[0].ids[:-1], i), loss=x) for i, x in enumerate(losses)]

    a, b, c, d = case([1.0, 2.0, 0.5, 3.0])
    run = gcg._Case([a])
    run.take(b, False, 1)
    assert run.kept == [a, b] and run.turn == b  # nothing better: the next of the buffer
    run.take(d, False, 1)
    assert run.kept == [a, b] and run.turn == a
    run.take(c, True, 1)
    assert run.kept == [c, a] and run.turn == c and run.exact and run.losses == [1.0, 1.0, 0.5]
    plain = gcg._Case([a])
    plain.take(b, False, 0)
    assert plain.kept == [a] and plain.turn == a
    result = attack(Runner(llama), chat, cases[0], replace(CONFIG, buffer=3, steps=8), allowed, 1)
    assert result.losses[-1] < result.losses[0] and all(
        y <= x for x, y in zip(result.losses, result.losses[1:], strict=False)
    )


def test_probe_sampling(llama64, chat, cases, allowed):
    """Probe set and draft's best are scored exactly, the rest not at all; how many follows the paper's formula."""
    runner = Runner(llama64)
    currents = looked(runner, cases)
    candidates = [several(c, allowed, 40) for c in currents]
    exact = score(runner, currents, candidates, BatchSize(64), None)
    draft = score(runner, currents, candidates, BatchSize(64), None, layers=2)
    found = screen(runner, currents, candidates, BatchSize(64), None, Probe(2, share=5, reduction=2))
    for full, cheap, got in zip(exact, draft, found, strict=True):
        kept = got.losses.isfinite()
        torch.testing.assert_close(got.losses[kept], full.losses[kept], atol=1e-5, rtol=0)
        probe = torch.arange(8) * 5
        rho = spearman(cheap.losses[probe], full.losses[probe])
        assert kept[probe].all() and kept.sum() == 8 + max(1, int((1 - (1 + rho) / 2) * 20))
        others = kept.clone()
        others[probe] = False
        limit = cheap.losses[others].max()
        rest = ~kept
        assert (cheap.losses[rest] >= limit).all()
        assert cheap.tokens < full.tokens and got.tokens > cheap.tokens
    assert not torch.allclose(draft[0].losses, exact[0].losses, atol=1e-2)
    with pytest.raises(ValueError, match="the draft must be shorter"):
        screen(runner, currents, candidates, BatchSize(64), None, Probe(4))
    with pytest.raises(ValueError, match="at least 1"):
        GCGConfig(steps=1, width=1, probe={"layers": 0})
    with pytest.raises(ValueError, match="'head', 'gradient' or 'bfloat16'"):
        Probe(2, draft="tail")
    with pytest.raises(ValueError, match="'head' needs layers"):
        Probe()


def test_a_draft_in_bfloat16(llama, chat, cases, allowed):
    """The best eighth by the model in bfloat16 is scored exactly, in the model's own dtype, the rest not at all."""
    runner = Runner(llama)
    currents = looked(runner, cases)
    candidates = [several(c, allowed, 40) for c in currents]
    exact = score(runner, currents, candidates, BatchSize(64), None)
    before = [p.clone() for p in llama.parameters()]
    found = scorer(runner, Probe(draft="bfloat16"))(currents, candidates, BatchSize(64), None)
    for full, got in zip(exact, found, strict=True):
        kept = got.losses.isfinite()
        assert kept.sum() == 5 and got.losses.dtype == torch.float32
        torch.testing.assert_close(got.losses[kept], full.losses[kept], atol=1e-5, rtol=0)
        assert full.losses[kept].max() <= full.losses.sort().values[:12].max()  # nearly those of the model
        assert full.tokens < got.tokens < 1.3 * full.tokens
    assert all(torch.equal(p, q) and p.dtype == q.dtype for p, q in zip(before, llama.parameters(), strict=True))
    all_kept = scorer(runner, Probe(draft="bfloat16", reduction=1))(currents, candidates, BatchSize(64), None)
    for full, got in zip(exact, all_kept, strict=True):
        torch.testing.assert_close(got.losses, full.losses, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="and so is the model"):
        scorer(Runner(copy.deepcopy(llama).to(torch.bfloat16)), Probe(draft="bfloat16"))
    with pytest.raises(ValueError, match="sharded"):
        scorer(runner, Probe(draft="bfloat16"), sharded=True)
    with pytest.raises(ValueError, match="'bfloat16' takes no layers"):
        Probe(2, draft="bfloat16")


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gradient_draft(family, models64, cases, allowed):
    """The estimate against a hand-written one on whole conversations; survivors that go on from it are exact."""
    model = models64[family]
    runner = Runner(model)
    currents = looked(runner, cases, at=2)
    candidates = [several(c, allowed) for c in currents]
    found = draft(runner, currents, candidates, BatchSize(9), 2)
    goes_on = score(runner, currents, candidates, BatchSize(7), None, start=2, streams=[own.streams for own in found])
    for current, own, cheap, scored in zip(currents, candidates, found, goes_on, strict=True):
        s, inner = current.suffix, []
        labels = torch.tensor(s.ids[s.target_start :])
        h = runner.blocks(runner.embed(torch.tensor([s.ids])), stop=2).detach().requires_grad_(True)
        z = runner.logits(runner.blocks(h, start=2)[0, s.target_start - 1 : -1])
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(z, labels), h)
        for tokens, guess, loss in zip(own.tolist(), cheap.losses.tolist(), scored.losses.tolist(), strict=True):
            other = s.changed(tokens, "", math.nan)
            inner = runner.blocks(runner.embed(torch.tensor([other.ids])), stop=2)
            moved = float((slope * (inner - h.detach())).sum())
            assert guess == pytest.approx(current.loss + moved, abs=1e-4)
            assert loss == pytest.approx(uncached_loss(runner, other), abs=2e-5)
        assert cheap.tokens > 0 and scored.tokens == pytest.approx(cheap.tokens, abs=1 + 0.5 * cheap.tokens)
    few = screen(runner, currents, candidates, BatchSize(64), None, Probe(2, 4, 2, "gradient"))
    for scored, got in zip(goes_on, few, strict=True):
        kept = got.losses.isfinite()
        assert 5 <= kept.sum() < 20
        torch.testing.assert_close(got.losses[kept], scored.losses[kept], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_lsgm_is_the_gradient_of_branches_that_are_let_go(family, models64, cases):
    """Against autograd through blocks whose branches are γ f(h) and (1 − γ) f(h) without a gradient: the same values."""
    runner, gamma = Runner(models64[family]), 0.3
    before = [prefix(runner, s) for s in cases]
    plain = looked(runner, cases)
    found = look(runner, cases, before, BatchSize(64), None, lsgm=gamma)

    def weakened(module, args, output):
        first, *rest = output if isinstance(output, tuple) else (output,)
        first = gamma * first + (1 - gamma) * first.detach()
        return (first, *rest) if isinstance(output, tuple) else first

    handles = [m.register_forward_hook(weakened) for layer in runner.layers for m in (layer.self_attn, layer.mlp)]
    expected = looked(runner, cases)
    for handle in handles:
        handle.remove()
    for a, b, c in zip(plain, found, expected, strict=True):
        assert a.loss == b.loss and not torch.allclose(a.gradient, b.gradient)
        torch.testing.assert_close(b.gradient, c.gradient, atol=1e-9, rtol=1e-7)
    again = looked(runner, cases)  # no hook is left behind
    assert all(torch.equal(a.gradient, b.gradient) for a, b in zip(plain, again, strict=True))
    same = look(runner, cases, before, BatchSize(64), None, lsgm=1.0)
    assert all(torch.allclose(a.gradient, b.gradient) for a, b in zip(plain, same, strict=True))


def test_momentum_is_a_running_mean_of_the_gradients(llama64, chat, cases, allowed, monkeypatch):
    runner, followed, gradients = Runner(llama64), [], []
    right_propose, right_look = gcg.propose, gcg.look

    def kept_look(*a, **k):
        out = right_look(*a, **k)
        gradients.append(out[0].gradient)
        return out

    monkeypatch.setattr(gcg, "propose", lambda g, *a: (followed.append(g), right_propose(g, *a))[1])
    monkeypatch.setattr(gcg, "look", kept_look)
    attack(runner, chat, cases[0], replace(CONFIG, momentum=0.75, steps=3), allowed, 1)
    g = gradients
    torch.testing.assert_close(followed[0], g[0])
    torch.testing.assert_close(followed[1], 0.75 * g[0] + 0.25 * g[1])
    torch.testing.assert_close(followed[2], 0.75**2 * g[0] + 0.75 * 0.25 * g[1] + 0.25 * g[2])
    for wrong in ({"momentum": 1.0}, {"lsgm": 1.5}):
        with pytest.raises(ValueError, match="it has to be"):
            replace(CONFIG, **wrong)


def test_spearman():
    a = torch.tensor([0.1, 0.5, 0.3, 0.9])
    assert spearman(a, a * 7) == pytest.approx(1.0) and spearman(a, -a) == pytest.approx(-1.0)
    assert spearman(a, torch.tensor([1.0, 3.0, 4.0, 2.0])) == pytest.approx(0.2)  # 1 − 6·8/60
    assert spearman(a[:1], a[:1]) == 0.0


def test_stops(llama64, chat, cases, allowed):
    runner, calls = Runner(llama64), []

    def judge(step, best):
        calls.append((step, sorted(best)))
        return {1} if step == 2 else {0, 1} if step == 3 else ()

    results = attack_many(runner, chat, cases, CONFIG, allowed, SEEDS, stop=judge)
    assert calls == [(0, [0, 1, 2]), (1, [0, 1, 2]), (2, [0, 1, 2]), (3, [0, 2]), (4, [2])]
    assert [(r.stopped, len(r.losses)) for r in results] == [("stop", 4), ("stop", 3), ("steps", 5)]
    free = attack_many(runner, chat, cases, CONFIG, allowed, SEEDS)
    for whole, cut in zip(free, results, strict=True):
        assert whole.losses[: len(cut.losses)] == pytest.approx(cut.losses, abs=1e-5)


def test_stop_exact(llama64, chat, allowed):
    """The target is what the model says by itself, so that greedy decoding gives it from the start."""
    runner = Runner(llama64)
    ids = chat.render("Explain the wind ! ! !").ids
    with torch.no_grad():
        says = int(llama64(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
    start = initial_suffix(chat, "Explain the wind", "x", " !", 3)
    assert start.ids[: start.target_start] == ids
    start = replace(start, ids=(*start.ids[: start.target_start], says))
    assert attack(runner, chat, start, replace(CONFIG, stop_exact=True), allowed, 1).stopped == "exact"
    other = replace(start, ids=(*start.ids[: start.target_start], (says + 1) % 300))
    assert attack(runner, chat, other, replace(CONFIG, stop_exact=True, steps=0), allowed, 1).stopped == "steps"


def test_a_wrong_cache_is_refused(llama64, chat, cases, allowed, monkeypatch):
    runner = Runner(llama64)
    token = int(allowed.nonzero()[3])
    check_cache(runner, cases[0], token)
    result = attack(runner, chat, cases[0], CONFIG, allowed, 1)
    assert result.loss == pytest.approx(uncached_loss(runner, result.suffix)) and result.batch_size == 9
    monkeypatch.setattr(gcg_scoring, "uncached_loss", lambda *a: uncached_loss(*a) + 1e-3)
    with pytest.raises(CacheError, match=r"start-up check of the prefix cache: loss \d"):
        check_cache(runner, cases[0], token)
    monkeypatch.setattr(gcg, "uncached_loss", lambda *a: uncached_loss(*a) + 1e-3)
    with pytest.raises(CacheError, match="final loss of a GCG attack"):
        attack(runner, chat, cases[0], CONFIG, allowed, 1)
    assert attack(runner, chat, cases[0], CONFIG, allowed, 1, verify=False).loss == result.suffix.loss
