"""benchmarks/gcg.py on a tiny model, with a made-up nanoGCG that also fails: our side runs, and no run is lost."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from conftest import make_model, make_tokenizer

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("gcg_benchmark", ROOT / "benchmarks" / "gcg.py")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LENGTH", 4)
    monkeypatch.setattr(module, "START", " !")
    monkeypatch.setattr(module, "TOP_K", 20)
    return module


def run(benchmark, monkeypatch, folder, *words) -> dict:
    make_model(layers=2).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    command = [
        "--model",
        folder / "model",
        "--json",
        folder / "out.json",
        "--threads",
        1,
        "--cases",
        2,
        "--seeds",
        1,
        "--width",
        8,
    ]
    monkeypatch.setattr(sys, "argv", ["gcg.py", *map(str, [*command, "--repeats", 1, "--search-width", 6, *words])])
    benchmark.main()
    return json.loads((folder / "out.json").read_text())


class Nano:
    """Scores as slowly as it says; its second run fails."""

    runs = 0

    def __init__(self, *_):
        type(self).runs = 0

    def call(self, name, case, **settings):
        if name == "score":
            if settings["batch_size"] == 16:
                raise Nano.error("out of memory")
            return {"seconds": 9.0, "step": 10.0, "losses": [1.0] * len(settings["candidates"])}
        type(self).runs += 1
        if self.runs == 2:
            raise Nano.error("No token sequences are the same after decoding and re-encoding.")
        return {"seconds": 30.0, "losses": [99.0, 98.0], "text": " ! ! ! !"}


def test_our_side_runs_and_a_failed_run_costs_no_other(benchmark, monkeypatch, tmp_path, capsys):
    Nano.error = benchmark.PeerError
    monkeypatch.setattr(benchmark, "Peer", Nano)
    table = tmp_path / "table.csv"
    found = run(benchmark, monkeypatch, tmp_path, "--together-batch", 24, "--seeds", 2, "--csv", table)
    assert found["a"]["nanogcg_s"] == 9.0 and set(found["a"]["nanogcg_batches_s"]) == {"0", "64"}
    for name in ("b", "b_echo"):
        b = found[name]
        assert (len(b["runs"]), b["nanogcg_failed"], b["censored"], b["nanogcg_not_surviving"]) == (3, 1, 0, 0)
        assert (b["failed"][0]["case"], b["failed"][0]["seed"]) == (0, 1) and "re-encoding" in b["failed"][0]["error"]
        assert all(r["reached"] for r in b["runs"]) and b["median_ratio"] < 1
        assert ("echo" in b["search"]) == (name == "b_echo")
    assert found["c"]["batch_size"] == 24 and found["c"]["same_suffix"] == found["c"]["cases"] == 2
    rows = {row["part"]: row for row in csv.DictReader(table.open())}
    assert list(rows) == ["a", "b", "b_echo", "c"] and rows["c"]["rows"] == "24"
    assert all(0 < float(row["engine_share"]) < 1 for row in rows.values())
    # By hand: 2 blocks of width 32, 20 targets of one case; nanoGCG's 9 s are those that it says.
    a, block = found["a"], 32 * (32 + 16 + 16 + 32) + 3 * 32 * 48
    work = 2 * 2 * block * a["needed_tokens"] + 2 * 424 * 32 * a["width"] * a["targets"]
    assert float(rows["a"]["engine_share"]) == pytest.approx(work / a["engine_s"] / found["matrix_rate"], rel=1e-4)
    work = 2 * (2 * block + 424 * 32) * a["width"] * a["run_by_nanogcg"]
    assert a["drafted_s"] > 0 and a["drafted_regret"] >= 0  # never better than the best of all
    assert float(rows["a"]["other_share"]) == pytest.approx(work / 9.0 / found["matrix_rate"], rel=1e-4)
    told = capsys.readouterr().out
    assert "1 of 4 runs failed; 0 of 3 final suffixes are other tokens" in told and "c  2 cases" in told


def test_finished_runs_are_in_the_file_when_the_script_dies(benchmark, monkeypatch, tmp_path):
    class Killed(Nano):
        def call(self, name, case, **settings):
            if name == "run" and self.runs == 1:
                raise KeyboardInterrupt
            return super().call(name, case, **settings)

    monkeypatch.setattr(benchmark, "Peer", Killed)
    Nano.error = benchmark.PeerError
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, monkeypatch, tmp_path, "--parts", "a,b")
    assert len(json.loads((tmp_path / "out.json").read_text())["b"]["runs"]) == 1


def test_parts_that_there_are(benchmark, monkeypatch, tmp_path, capsys):
    assert benchmark.parts("ac") == benchmark.parts("a,c") == {"a", "c"}
    with pytest.raises(SystemExit):
        run(benchmark, monkeypatch, tmp_path, "--parts", "a,d")
    assert "there is no part d" in capsys.readouterr().err


def test_a_model_of_a_known_shape_is_made_once(benchmark, monkeypatch, tmp_path):
    import machine

    small = machine.KNOWN["mistral-7b"].__class__(2, 32, 48, 4, 2, 8, 500, False)
    monkeypatch.setitem(machine.KNOWN, "mistral-7b", small)
    monkeypatch.setattr(benchmark, "Peer", Nano)
    Nano.error = benchmark.PeerError
    words = ("--shape", "mistral-7b", "--work", tmp_path / "work", "--dtype", "bfloat16", "--parts", "a,c")
    found = run(benchmark, monkeypatch, tmp_path, *words)
    assert (
        found["model"] == "mistral-7b-bfloat16" and found["a"]["tolerance"] == 5e-2 and found["c"]["same_suffix"] == 2
    )
    made = (tmp_path / "work/mistral-7b-bfloat16/model.safetensors").stat()
    assert made.st_size < 2.2 * small.parameters + 10_000  # two bytes a weight
    assert run(benchmark, monkeypatch, tmp_path, *words)["c"]["cases"] == 2
    assert (tmp_path / "work/mistral-7b-bfloat16/model.safetensors").stat().st_mtime_ns == made.st_mtime_ns
    with pytest.raises(SystemExit, match="--shape mixtral: there is no such shape; there are"):
        run(benchmark, monkeypatch, tmp_path, "--shape", "mixtral")
    with pytest.raises(SystemExit, match="tied head are not those of the random model"):
        run(benchmark, monkeypatch, tmp_path, "--shape", "smollm2-135m")


def test_a_suffix_that_merges_with_its_surroundings_does_not_survive(benchmark, monkeypatch):
    from safety_geometry.attacks.gcg.suffix import initial_suffix
    from safety_geometry.models.chat import ChatFormat

    chat = ChatFormat(make_tokenizer("merging"))
    case = initial_suffix(chat, "Explain the wind", "Sure", "!", 4)
    assert benchmark.survives(chat, case, "!!!!") and benchmark.survives(chat, case, " and and")
    assert not benchmark.survives(chat, case, " the the")  # " the" is read with the end of "wind"


def test_a_child_that_dies_is_started_again(benchmark, monkeypatch, tmp_path, chat):
    from safety_geometry.attacks.gcg.suffix import initial_suffix

    script = tmp_path / "child.py"
    script.write_text(
        "import json, sys\nprint('{}', flush=True) if sys.stdin.readline() else None\n"
        "for line in sys.stdin:\n"
        "    call = json.loads(line)\n"
        "    if call['seed'] == 1: sys.exit(3)\n"
        "    print(json.dumps({'error': 'filter'} if call['seed'] == 2 else {'seconds': 1.0}), flush=True)\n"
    )
    peer = benchmark.Peer.__new__(benchmark.Peer)
    peer.command, peer.hello, peer.child, peer.settings = [sys.executable, script], {"model": "m"}, None, {"top_k": 20}
    case = initial_suffix(chat, "Explain the wind", "Sure", " !", 4)
    assert peer.call("run", case, seed=0, batch_size=0) == {"seconds": 1.0}
    with pytest.raises(benchmark.PeerError, match="ended with status 3"):
        peer.call("run", case, seed=1, batch_size=0)
    with pytest.raises(benchmark.PeerError, match="filter"):
        peer.call("run", case, seed=2, batch_size=0)
    assert peer.call("run", case, seed=0, batch_size=0) == {"seconds": 1.0}
    peer.child.stdin.close()
    peer.child.stdout.close()
    assert peer.child.wait(30) == 0
