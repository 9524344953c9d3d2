"""What gcg.py found, in words: lines of each part as it ends, and the table at the end."""

import statistics
from collections.abc import Iterable

from machine import operations

from safety_geometry.models.runner import Runner

WANTED = {"a": 2.0, "b": 1 / 3, "c": 4.0}


def show_scoring(result: dict) -> None:
    a = result["a"]
    lines = [
        ("scoring, candidates a second", f"{a['engine_per_s']:.1f}, nanoGCG {a['nanogcg_per_s']:.1f} (batch {result['peer_batch'] or 'all'})"),
        ("ratio", f"{a['ratio']:.2f}  (wanted: at least {WANTED['a']:g})"),
        ("ratio at nanoGCG's default batch (all)", "not measured" if a["ratio_default"] is None else f"{a['ratio_default']:.2f}"),
        ("whole step", f"{a['engine_step_s']:.2f} s, nanoGCG {a['nanogcg_step_s']:.2f} s, ratio {a['nanogcg_step_s'] / a['engine_step_s']:.2f}"),
        ("floor", f"{a['floor_s']:.2f} s for {a['tokens_a_candidate']:.1f} tokens a candidate"),
        ("share of the floor reached", f"{a['floor_share']:.0%}"),
        ("largest difference of losses", f"{a['largest_difference']:.1e}{'' if a['largest_difference'] < a['tolerance'] else '  NO AGREEMENT'}"),
    ]  # fmt: skip
    if "drafted_s" in a:
        lines.append(
            (
                "with a draft in bfloat16",
                f"{a['drafted_s']:.2f} s, ratio {a['drafted_ratio']:.2f}; loss of the best above that of all {a['drafted_regret']:.1e}",
            )
        )
    for name, value in lines:
        print(f"a  {name:<40}{value}", flush=True)


def show_search(name: str, found: dict) -> None:
    n = len(found["runs"])
    if n:
        print(f"{name}  {n} runs, medians: nanoGCG {found['nanogcg_median_s']:.1f} s, ours {found['engine_median_s']:.1f} s; "
              f"median ratio {found['median_ratio']:.2f} (wanted: at most {WANTED['b']:.2f}); {found['censored']} did not reach the loss "
              f"in nanoGCG's time")  # fmt: skip
    print(f"{name}  nanoGCG: {found['nanogcg_failed']} of {n + found['nanogcg_failed']} runs failed; {found['nanogcg_not_surviving']} of {n} final "
          f"suffixes are other tokens in the whole conversation")  # fmt: skip


def show_together(c: dict) -> None:
    print(f"c  {c['cases']} cases: one by one {c['alone_s']:.1f} s, together {c['together_s']:.1f} s, "
          f"ratio {c['ratio']:.2f} (wanted on a GPU: {WANTED['c']:g})")  # fmt: skip


def table(result: dict, searches: Iterable[str], runner: Runner) -> list[dict]:
    """A row for each part that was run, and for each of the `searches` of part b: seconds of both sides, and the shares
    of the matrix rate that they reach. Tokens count as the search counts them, a backward pass as two forward ones; in
    part c the other side are our own runs one by one."""
    (token, logit), rate, rows = operations(runner), result["matrix_rate"], []
    of_all = {name: result[name] for name in ("model", "card", "dtype")}
    if a := result.get("a"):
        ours = token * a["needed_tokens"] + logit * a["width"] * a["targets"]
        theirs = (token + logit) * a["width"] * a["run_by_nanogcg"]
        rows.append({"part": "a"} | of_all | {"rows": a["width"], "engine_s": a["engine_s"], "other_s": a["nanogcg_s"], "ratio": a["ratio"],
                     "engine_share": ours / a["engine_s"] / rate, "other_share": theirs / a["nanogcg_s"] / rate})  # fmt: skip
    for name in searches:
        if (b := result.get(name)) and b["runs"]:
            share = statistics.median(token * r["tokens"] / r["seconds"] for r in b["runs"]) / rate
            rows.append({"part": name} | of_all | {"rows": result["batch_size"], "engine_s": b["engine_median_s"], "other_s": b["nanogcg_median_s"],
                         "ratio": 1 / b["median_ratio"], "engine_share": share})  # fmt: skip
    if c := result.get("c"):
        share = token * c["tokens"] / c["together_s"] / rate
        rows.append({"part": "c"} | of_all | {"rows": c["batch_size"], "engine_s": c["together_s"], "other_s": c["alone_s"], "ratio": c["ratio"],
                     "engine_share": share, "other_share": share / c["ratio"]})  # fmt: skip
    return rows
