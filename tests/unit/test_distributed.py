"""Two processes train as one does, with and without sharded weights; and they notice when they do not.

Two gloo processes are started once (`distributed_cases.rank_main`); one process, here, gives the numbers to compare with.
"""

import json
import multiprocessing
import socket
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from distributed_cases import ATTACKS, CONFIG, HALF, POOLS, SHARDED, STEPS, Cases, rank_main, restore, run, save
from safetensors.torch import load_file

from safety_geometry.models import processes as distributed
from safety_geometry.models.processes import ONE, Ranks, RanksError, launched

pytestmark = pytest.mark.usefixtures("one_thread")
PATIENCE = 300  # seconds; a rank that waits for ever is a failure


@pytest.fixture(scope="module")
def cases():
    return Cases()


@pytest.fixture(scope="module")
def both(cases, tmp_path_factory):
    """(what one process found, what each of two found, the folder with their states, exit statuses, what rank 0 said)."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # what is slow to import is imported once
    context.set_forkserver_preload(["distributed_cases", "transformers.models.llama.modeling_llama", "peft"])
    reference = context.Event()
    processes = [context.Process(target=rank_main, args=(r, 2, port, folder, reference), daemon=True) for r in range(2)]
    for process in processes:
        process.start()
    one = {}
    for regime in POOLS:
        trainer = cases.trainer(regime)
        log = run(trainer, HALF, lambda t: {"answers": cases.answers(t)})
        save(trainer, folder / f"one-{regime}-half")
        one[regime] = log + run(trainer, STEPS)
        save(trainer, folder / f"one-{regime}")
    reference.set()
    until = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()
        process.join()
    said = [(folder / f"rank{r}.txt").read_text() for r in range(2)]
    files = [folder / f"rank{r}.json" for r in range(2)]
    assert all(file.exists() for file in files), f"a rank did not get through:\n{said[0][-3000:]}\n{said[1][-3000:]}"
    return one, [json.loads(file.read_text()) for file in files], folder, [p.exitcode for p in processes], said[0]


def close(a: list[dict], b: list[dict], but=("attack_tokens",)) -> None:
    """Log lines: losses within 1e-9, everything else (suffixes, counts) equal. Which tokens are run depends on the batches."""
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        x, y = json.loads(json.dumps(x)), json.loads(json.dumps(y))
        assert x.keys() == y.keys()
        for key in x.keys() - set(but):
            if key == "pool":
                near(x[key], y[key])
            elif isinstance(x[key], float):
                assert x[key] == pytest.approx(y[key], abs=1e-9, nan_ok=True), key
            else:
                assert x[key] == y[key], key


def near(a: list[dict] | None, b: list[dict] | None) -> None:
    """Cases of a pool: the same slots, behaviours, suffixes and counts."""
    if a is None or b is None:
        assert a is b
        return
    for x, y in zip(a, b, strict=True):
        for key in x:
            if isinstance(x[key], float):
                assert x[key] == pytest.approx(y[key], abs=1e-9), key
            else:
                assert x[key] == y[key], key


def states_close(folder: Path, a: str, b: str) -> None:
    one, two = (load_file(folder / f"{name}.safetensors") for name in (a, b))
    assert one.keys() == two.keys()
    for name in one.keys() - {"rng"}:
        torch.testing.assert_close(one[name], two[name], atol=1e-9, rtol=0, msg=name)
    one, two = (json.loads((folder / f"{name}.json").read_text()) for name in (a, b))
    near(one.pop("pool"), two.pop("pool"))
    assert one == two


@pytest.mark.parametrize("regime", POOLS)
def test_two_processes_train_as_one(both, regime):
    one, (first, second), folder, *_ = both
    plain = [{k: v for k, v in line.items() if k != "answers"} for line in one[regime]]
    close(first["logs"][regime], plain)
    assert json.dumps(first["logs"][regime]) == json.dumps(second["logs"][regime])  # every rank knows everything
    states_close(folder, f"two-{regime}-0", f"one-{regime}")
    losses = [line["loss"] for line in plain]
    assert len(set(losses)) == STEPS
    if regime == "r2d2":
        texts = [[c["text"] for c in line["pool"]] for line in plain]
        assert len({json.dumps(t) for t in texts}) == STEPS  # suffixes are found in every step
        assert {c["born"] for c in plain[-1]["pool"]} != {0}  # a reset has been


def test_all_ranks_end_in_the_same_state(both):
    _, _, folder, *_ = both
    for stem in [f"two-{regime}" for regime in POOLS] + ["sharded-r2d2", "sharded-frozen"]:
        first, second = (load_file(folder / f"{stem}-{r}.safetensors") for r in range(2))
        for name in first.keys() - {"rng"}:
            assert torch.equal(first[name], second[name]), name
        assert (folder / f"{stem}-0.json").read_text() == (folder / f"{stem}-1.json").read_text()


def test_a_state_goes_from_one_process_to_two_and_back(both, cases):
    one, (first, _), folder, *_ = both
    rest = one["r2d2"][HALF:]
    close(first["resumed"], rest)
    close(run(restore(cases.trainer("r2d2"), folder / "two-r2d2-half"), STEPS), rest)
    states_close(folder, "two-r2d2-half", "one-r2d2-half")


@pytest.mark.parametrize("name", ATTACKS)
def test_shared_candidates_give_the_same_attack(both, cases, name):
    _, (first, second), *_ = both
    want = cases.attack(name)
    assert any(len(set(r["losses"])) > 1 for r in want)
    sharded = [first["sharded_attacks"][name]] if name in SHARDED else []
    for found in (first["attacks"][name], second["attacks"][name], *sharded):
        for got, plain in zip(found, want, strict=True):
            assert got["ids"] == list(plain["ids"]) and got["scored"] == plain["scored"]
            assert got["rejected"] == plain["rejected"]
            assert got["losses"] == pytest.approx(plain["losses"], abs=1e-9)


@pytest.mark.parametrize("regime", ["r2d2", "frozen"])
def test_sharded_weights_train_as_whole_ones(both, regime):
    one, (first, _), folder, *_ = both
    close(first["sharded"][regime], one[regime][:HALF])  # answers between the steps among it
    states_close(folder, f"sharded-{regime}-0", f"one-{regime}-half")


def test_a_rank_holds_its_part_of_the_frozen_weights(both, cases):
    _, two, folder, *_ = both
    whole = sum(p.numel() for p in cases.model.model.layers.parameters())
    assert [two[r]["held"] for r in range(2)] == [[whole // 2, whole]] * 2
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    state = load_file(folder / "sharded-frozen-0.safetensors")
    want = {k.removeprefix("adapter.").replace(".default", ""): v for k, v in state.items() if k.startswith("adapter.")}
    assert saved.keys() == want.keys() and all(torch.equal(saved[k], want[k]) for k in saved)


def test_dropout_masks_are_seeded_and_differ_between_ranks(both, cases):
    _, (first, _), *_ = both
    assert first["dropout"][0] == first["dropout"][1]
    assert abs(first["dropout"][0] - run(cases.trainer("sft", dropout=0.5), 1)[0]["loss"]) > 1e-6


def test_ranks_that_part_are_noticed(both):
    _, two, *_ = both
    for found in two:
        assert found["other candidates"].startswith("candidates of a GCG step: process 1 of 2 has another one")
        assert found["other adapter"].startswith("adapter and pool after step 0: process 1 of 2 has another one")


def test_sums(both):
    _, two, *_ = both
    for found in two:
        assert found["gradients"] == [[3.0, 6.0], [5.0, 7.0], None]
        assert found["sums"] == [3.0, 1.0, 6, 3.0]


def test_a_rank_does_not_wait_for_a_dead_one(both):
    *_, statuses, said = both
    assert statuses[1] == 3 and statuses[0] not in (0, None, -9), said[-2000:]


def test_one_process_exchanges_nothing(cases, monkeypatch):
    """Not a single collective, and the numbers of the ranks' methods are those put in."""
    for name in ("all_reduce", "all_gather", "broadcast", "init_process_group"):
        monkeypatch.setattr(distributed.dist, name, lambda *a, **k: pytest.fail("an exchange"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched("cpu") as ranks:
        assert ranks is ONE and ranks.first
        run(cases.trainer("r2d2", ranks), 1)
        assert ranks.sum(1.0, 2.5) == (1.0, 2.5) and ranks.least(3) == 3 and ranks.of_first(4.0) == (4.0,)
        assert ranks.share([3, 1, 2], 5) == [3, 1, 2]


def test_rows_are_dealt_out_in_turn():
    items = list(range(7))
    for offset in range(4):
        parts = [Ranks(r, 3).share(items, offset) for r in range(3)]
        assert sorted(x for part in parts for x in part) == items
        assert parts[offset % 3][0] == 0 and parts[(offset + 1) % 3][0] == 1
        assert max(map(len, parts)) == 3
    assert Ranks(2, 3).share([1, 2]) == []


def test_what_cannot_be_shared(cases, monkeypatch):
    with pytest.raises(ValueError, match="a step has 3 rows, and 4 processes cannot share them"):
        cases.trainer("sft", Ranks(0, 4))
    assert asdict(cases.trainer("r2d2", Ranks(0, 9)).config) == asdict(CONFIG)  # 3 + 2 away + 4 toward
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RanksError, match="2 processes need a GPU each, and this machine shows 1"), launched("cuda"):
        pass
    with pytest.raises(RanksError, match="device cuda:0 is one GPU"), launched("cuda:0"):
        pass
