"""Static passes against passes without them, in float64: every family, on the CPU, where a block stands for its graph."""

import gc
import json
import sys
import weakref

import clean_rows
import pytest
import torch
from conftest import FAMILIES, REQUESTS, make_model
from test_adapters import folder, save_adapter  # noqa: F401  (a fixture)
from test_generation import NEVER, PROMPTS, alone, frequent_tokens
from test_scoring import HARMFUL, directions

from safety_geometry.attacks.gcg import scoring
from safety_geometry.attacks.gcg.batches import BatchSize
from safety_geometry.attacks.gcg.suffix import Suffix
from safety_geometry.geometry.activations import record
from safety_geometry.geometry.candidate_scores import score_candidates
from safety_geometry.models import graphs as module
from safety_geometry.models import memory
from safety_geometry.models.generation import generate
from safety_geometry.models.graphs import GraphError, Shape
from safety_geometry.models.interventions import Intervention
from safety_geometry.models.language_model import each_save, load_language_model
from safety_geometry.models.runner import Runner, pack

CLOSE = {"atol": 2e-5, "rtol": 2e-5}  # Hugging Face's norms compute in float32 whatever the model's dtype


@pytest.fixture(scope="module")
def models64():
    """Of this module alone: transformers leaves hooks on a model that was asked for its hidden states, and a block with
    hooks is replayed by no graph."""
    return {family: make_model(family).double() for family in FAMILIES}


@pytest.fixture(scope="module")
def llama64(models64):
    return models64["llama"]


def both(model) -> tuple[Runner, Runner]:
    return Runner(model), Runner(model, graphs=True)


def steering(runner: Runner, size: float) -> list:
    """Edits of each of PROMPTS, of a size: of one block, of all, two, none."""
    unit = torch.nn.functional.normalize(torch.randn(3, runner.d, generator=torch.Generator().manual_seed(3)), dim=-1)
    return [
        (Intervention("ablate", 1, unit[:1]),), (Intervention("steer", 2, size * unit[1:2], 1.5),), (),
        (Intervention("ablate", None, unit[1:2], 0.7),), (Intervention("steer", 1, size * unit[2:]), Intervention("ablate", 3, unit)),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_hugging_faces(family, models64):
    """Left-padded prompts, rows that end early, a shared prefix or none; twice, so that graphs are used again."""
    model = models64[family]
    runner, stops = Runner(model, graphs=True), frequent_tokens(model)
    for chosen in (stops, NEVER):
        want = [alone(model, p, chosen, 6) for p in PROMPTS]
        for batch_size, share in ((2, 3), (5, 0), (5, 100), (5, 100)):
            assert generate(runner, PROMPTS, chosen, 6, batch_size, share) == want, (batch_size, share)
    counts = runner.graphs.counts
    assert counts.replayed > 2 * counts.captured > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_under_interventions(family, models64):
    """Of blocks' inputs, on prompts, prefix and decoded tokens; rows stop at different steps."""
    plain, static = both(models64[family])
    edits = steering(plain, 40.0 if family == "gemma3_text" else 4.0)
    free = generate(plain, PROMPTS, NEVER, 6, 5, share=5, edits=edits)
    assert sum(a != b for a, b in zip(free, generate(plain, PROMPTS, NEVER, 6, 5, share=5), strict=True)) >= 2
    stops = [free[0].ids[1], free[4].ids[3]]
    for chosen in (NEVER, stops):
        want = generate(plain, PROMPTS, chosen, 6, 5, share=5, edits=edits)
        for _ in range(2):
            assert generate(static, PROMPTS, chosen, 6, 5, share=5, edits=edits) == want
    turned = [edits[i] for i in (4, 0, 3, 1, 2)]  # the same shape under other edits: no graph holds an edit
    other = generate(plain, PROMPTS, NEVER, 6, 5, share=5, edits=turned)
    assert generate(static, PROMPTS, NEVER, 6, 5, share=5, edits=turned) == other != free


def test_limits_of_each_prompt_and_what_is_observed(llama64):
    plain, static = both(llama64)
    limits, seen = [1, 6, 2, 4, 3], {}
    for runner in (plain, static):
        streams = seen.setdefault(runner, [])
        answers = generate(
            runner, PROMPTS, NEVER, limits, 5, share=5, observe=lambda *a, kept=streams: kept.append(a[2])
        )
        assert answers == [alone(llama64, p, NEVER, n) for p, n in zip(PROMPTS, limits, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))


def test_a_step_replays_every_block_and_captures_it_once(llama64):
    runner = Runner(llama64, graphs=True)
    generate(runner, PROMPTS, NEVER, 6, 5)
    counts = runner.graphs.counts
    assert (counts.captured, counts.replayed) == (4, 4 * 4)  # five steps, of which the first is none
    generate(runner, PROMPTS, NEVER, 6, 5)  # in the cache of the first batch
    assert (counts.captured, counts.replayed) == (4, 4 * 4 + 5 * 4)


def test_a_cache_is_used_again_as_if_new(llama64):
    """What an earlier batch left, even what is not finite, is not seen."""
    runner = Runner(llama64, graphs=True)
    want = generate(runner, PROMPTS, NEVER, 6, 5)
    ((_, cache),) = runner.graphs._caches.items()
    with torch.inference_mode():
        for pair in cache.slots.values():
            for slot in pair:
                slot.fill_(torch.nan)
    assert generate(runner, PROMPTS, NEVER, 6, 5) == want


def test_few_caches_are_kept_and_the_graphs_of_others_go(llama64):
    runner = Runner(llama64, graphs=True)
    want = [alone(llama64, p, NEVER, 6) for p in PROMPTS]
    for batch_size in (5, 1, 2, 3, 5):
        assert generate(runner, PROMPTS, NEVER, 6, batch_size) == want
    places = set(runner.graphs._caches)
    assert len(places) == module.CACHES
    assert {place for _, place in runner.graphs._passes if place is not None} <= places


# ------------------------------------------------------------------------------------------------------------ scoring


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [0, 3, 8])
def test_forward_passes_of_any_length(family, share, models64):
    """Three sets of rows of the same rounded shape, with and without an edit, tapped at every block."""
    plain, static = both(models64[family])
    start = [1, 40, 41, 42, 43, 44, 45, 46]
    sets = [[[*start, *range(50 + k, 50 + k + n)] for n in (3, 7 - k, 1)] for k in range(3)]
    vector = torch.linspace(-1, 1, plain.d, dtype=torch.float64)
    for rows in sets:
        for edit in (None, lambda layer, h: h + layer * vector):
            batch, taps = pack(rows, share=share), ({}, {})
            h, same = (
                runner.forward(batch, edit=edit, tap=lambda layer, x, kept=kept: kept.update({layer: x}))
                for runner, kept in zip((plain, static), taps, strict=True)
            )
            for layer in (*taps[0], None):
                a, b = (h, same) if layer is None else (taps[0][layer], taps[1][layer])
                for i, n in enumerate(batch.lengths):
                    torch.testing.assert_close(b[i, :n], a[i, :n], **CLOSE)
    assert static.graphs.counts.replayed


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_and_candidate_scores(family, models64, chat):
    plain, static = both(models64[family])
    harmful, benign = chat.render_many(HARMFUL), chat.render_many(REQUESTS)
    for batch_size in (2, 5):
        want, found = (record(runner, benign, [-5, -1], batch_size, chat.n_prefix) for runner in (plain, static))
        torch.testing.assert_close(found, want)
    vectors = directions(plain.d, positions=(-1, -2))
    for batch_size in (3, 7, 24):
        want, found = (
            score_candidates(runner, vectors, harmful, benign, [0, 2], batch_size=batch_size, share=chat.n_prefix)
            for runner in (plain, static)
        )
        for name in ("ablate_harmful", "add_benign", "kl", "clean_harmful", "clean_benign"):
            a, b = (torch.as_tensor(getattr(scores, name)) for scores in (want, found))
            torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)  # float32
    assert static.graphs.counts.replayed > static.graphs.counts.captured


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_of_candidates_of_several_cases(family, models64):
    """GCG's batches: rows of cases that start at different places, after pasts of their own."""
    plain, static = both(models64[family])
    cases = [
        Suffix("", "", "", (1, *range(40, 44 + k), *range(60, 66), 70 + k, 71, 72), 5 + k, 11 + k, 12 + k)
        for k in range(2)
    ]
    generator = torch.Generator().manual_seed(7)
    candidates = [torch.tensor(case.tokens).repeat(9, 1) for case in cases]
    for rows in candidates:
        rows[range(9), torch.randint(6, (9,), generator=generator)] = torch.randint(50, 90, (9,), generator=generator)
    losses = []
    for runner in (plain, static):
        batch = BatchSize(6)
        prefixes = [scoring.prefix(runner, case) for case in cases]
        currents = scoring.look(runner, cases, prefixes, batch, None)
        for _ in range(3):
            losses.append([scored.losses for scored in scoring.score(runner, currents, candidates, batch, None)])
    for later in losses[1:]:
        for a, b in zip(losses[0], later, strict=True):
            torch.testing.assert_close(b, a, atol=1e-6, rtol=1e-6)
    assert static.graphs.counts.replayed


# --------------------------------------------------------------------------------------------- what is left as it was


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_no_result_depends_on_earlier_passes(family, models64):
    """To the bit: the first pass of a shape, the capturing one, replays, and those after other rows. So what is resumed
    equals what was done in one go."""
    runner, batch = Runner(models64[family], graphs=True), pack(PROMPTS, share=3)
    want = runner.forward(batch)
    for k in range(3):
        assert torch.equal(runner.forward(batch), want), k
        runner.forward(pack([[*prompt, 5] for prompt in PROMPTS[:3]], share=k))


@torch.no_grad()
def test_what_a_pass_gave_stays(llama64):
    """The next pass writes where this one did, and not into what was handed out."""
    runner, batch, taps = Runner(llama64, graphs=True), pack(PROMPTS), []
    for _ in range(2):
        first = runner.forward(batch, tap=lambda layer, h: taps.append(h))
    kept = [h.clone() for h in (first, *taps)]
    runner.forward(pack([[5, *prompt[1:]] for prompt in PROMPTS]))
    assert runner.graphs.counts.replayed == 2 * runner.n_layers
    assert all(torch.equal(a, b) for a, b in zip(kept, (first, *taps), strict=True))


def test_passes_with_gradients_and_recorded_ones_are_run_as_ever(llama64):
    runner = Runner(llama64, graphs=True)
    for _ in range(3):
        embedded = runner.embed(torch.tensor([PROMPTS[0]])).requires_grad_(True)
        (slope,) = torch.autograd.grad(runner.blocks(embedded).sum(), embedded)
        assert slope.abs().max() > 0
        with torch.no_grad():
            assert len(runner.prefix(PROMPTS[0]).past) == runner.n_layers
    assert not runner.graphs.counts.captured


@torch.no_grad()
def test_a_hook_of_pytorch_is_called_in_every_pass(fresh_llama):
    model, calls = fresh_llama.double(), []
    plain, static = both(model)
    batch = pack(PROMPTS)
    for _ in range(3):
        clean = static.forward(batch)
    hooks = [
        model.model.layers[1].register_forward_pre_hook(lambda block, args: calls.append(1) or (args[0] + 1, *args[1:])),
        model.model.layers[2].register_forward_hook(lambda block, args, out: calls.append(2) or 2 * out),
    ]  # fmt: skip
    want = plain.forward(batch)
    calls.clear()
    for _ in range(2):
        torch.testing.assert_close(static.forward(batch), want, **CLOSE)
    assert calls == [1, 2, 1, 2] and not torch.allclose(want, clean)
    for hook in hooks:
        hook.remove()
    for i, n in enumerate(batch.lengths):
        torch.testing.assert_close(static.forward(batch)[i, :n], clean[i, :n], **CLOSE)


@torch.no_grad()
def test_eager_attention_and_a_single_token_after_a_past():
    """Attention of its own masks, and a token that sees all and needs none until its past is rounded up."""
    model = make_model("llama", attn_implementation="eager").double()
    for one in (model, make_model("qwen3", window=None).double()):
        plain, static = both(one)
        for past in (5, 8):
            for last in (60, 61, 62):
                batch = pack([[*PROMPTS[1][:past], last]], share=past)
                assert batch.ids.shape == (1, 1)
                torch.testing.assert_close(static.forward(batch), plain.forward(batch), **CLOSE)
        assert static.graphs.counts.replayed >= 4 * plain.n_layers


def test_shapes_are_rounded_up():
    def shape(rows, tokens, exact=False):
        return Shape.of(torch.zeros(rows, tokens, 4), {"full_attention": None}, {}, None, exact)

    assert [shape(n, 1).rows for n in (1, 7, 8, 9, 16)] == [1, 7, 8, 16, 16]
    assert [shape(1, n).tokens for n in (1, 2, 8, 9)] == [1, 8, 8, 16]
    assert (shape(9, 9, exact=True).rows, shape(9, 9, exact=True).tokens) == (9, 9)


# -------------------------------------------------------------------------------------------------------- in a study


@pytest.mark.parametrize("graphs", [None, False, True])
def test_a_sidecar_says_whether_graphs_were_used(folder, tmp_path, monkeypatch, graphs):  # noqa: F811
    rows, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"id": str(i), "prompt": text}) + "\n" for i, text in enumerate(REQUESTS)))
    model = {"dtype": "float32", "device": "cpu", "threads": 1, "system": None}
    model |= {} if graphs is None else {"graphs": graphs}
    params = {"model": model, "max_new_tokens": 5, "batch_size": 3}
    words = ["clean_rows.py", "--model", folder, "--prompts", rows, "--rows", out, "--params", json.dumps(params)]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    clean_rows.main()
    sidecar = json.loads((tmp_path / "out.jsonl.provenance.json").read_text())
    assert sidecar.get("graphs") == ("static caches without a graph" if graphs else None)


def test_each_save_has_graphs_of_its_own_or_none(folder, tmp_path):  # noqa: F811
    """Two adapters on one base: the second is not answered with the first one's graphs."""
    for seed in (1, 2):
        save_adapter(tmp_path / str(seed), seed)
    answers = {}
    for graphs in (False, True):
        base = load_language_model(folder, graphs=graphs)
        generate(base.runner, PROMPTS, NEVER, 6, 5)
        saves = each_save(base, [tmp_path / "1", tmp_path / "2"], "cpu")
        answers[graphs] = [generate(save.runner, PROMPTS, NEVER, 6, 5) for save in saves]
        assert (base.runner.graphs is not None) == graphs
    assert answers[True] == answers[False] and answers[True][0] != answers[True][1]
    assert not base.runner.graphs._passes and not base.runner.graphs._caches


# ------------------------------------------------------------------------------------------------------------- memory


def test_memory_that_runs_out_is_taken_from_the_graphs(llama64, monkeypatch):
    """A batch that does not fit: graphs and caches are let go of before it is tried again with fewer rows."""
    runner, blocks, held = Runner(llama64, graphs=True), Runner.blocks, []
    want = generate(runner, PROMPTS, NEVER, 6, 4)

    def small(self, h, **options):
        if len(h) > 2:
            held.append(len(self.graphs._caches) + len(self.graphs._passes))
            raise torch.OutOfMemoryError("none left")
        return blocks(self, h, **options)

    monkeypatch.setattr(Runner, "blocks", small)
    with pytest.warns(memory.LessMemory):
        assert generate(runner, PROMPTS, NEVER, 6, 4) == want
    assert held and not runner.graphs._caches.keys() & {(4, 32)}


def test_graphs_of_a_gpu_do_not_keep_the_model():
    """What captures and forgets how, as on a GPU, holds no model: it goes with its last name."""
    model = make_model(layers=2)
    runner, gone = Runner(model, graphs=True), weakref.ref(model)

    def captured(run, into):
        into.copy_(run())
        return lambda: None

    monkey = runner.graphs._capture
    monkey.__class__ = type("Gpu", (type(monkey),), {"__call__": lambda self, run, into: captured(run, into)})
    with torch.no_grad():
        for _ in range(3):
            runner.forward(pack(PROMPTS))
    gc.disable()
    try:
        graphs = runner.graphs
        assert graphs._passes
        del model, runner
        assert gone() is None
    finally:
        gc.enable()


def test_what_cuda_cannot_capture_is_one_sentence(monkeypatch):
    """On a CPU that says it is a GPU: torch refuses, and the message says what to do."""

    class Cuda:
        type = "cuda"

    class Refusing:
        def capture_begin(self, *_, **__):
            pass

        def capture_end(self):
            raise RuntimeError("invalidated")

    class Into:
        device = Cuda()

        def copy_(self, other):
            raise error

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: memory.warnings.catch_warnings())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refusing)
    error = RuntimeError("operation not permitted when stream is capturing\nmore")
    with pytest.raises(GraphError, match=r"^a block cannot be .* \(operation not .* capturing\); run without graphs$"):
        module.Capture(module.Counts())(lambda: None, Into())
    error = torch.OutOfMemoryError("none left")
    with pytest.raises(torch.OutOfMemoryError):
        module.Capture(module.Counts())(lambda: None, Into())
