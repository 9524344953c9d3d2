"""What attack_quality.py found, put together: means with intervals, what was chosen, a figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from safety_geometry.stats.estimates import paired_difference
from safety_geometry.stats.seeds import generator

SETS = ("choice", "heldout")  # of targets: those that choose a variant, and those that tell what it gains
PEER = "nanogcg"  # the variant that others are compared with


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Means by set, variant and budget; the unit of every interval is the target, whose seeds are averaged first."""
    out = []
    for (of_set, budget), group in frame.groupby(["set", "budget"]):
        units = group.pivot_table(index="target", columns="variant", values=["loss", "success"]).dropna()
        for variant in group["variant"].unique():
            row = {"set": of_set, "variant": variant, "budget": budget, "targets": len(units)}
            for what in ("loss", "success"):
                own, peer = units[what][variant], units[what][PEER]
                row |= numbers(what, own, 0 * own, variant) | numbers(f"{what}_less_{PEER}", own, peer, variant)
            out.append(row)
    return pd.DataFrame(out)


def numbers(what: str, first: pd.Series, second: pd.Series, variant: str) -> dict[str, float]:
    rng = generator("attack_quality", what, variant)
    found = paired_difference(first.to_numpy(float), second.to_numpy(float), rng)
    return {what: found.value, f"{what}_lo": found.lo, f"{what}_hi": found.hi}


def told(summary: pd.DataFrame) -> list[str]:
    """The table of the largest budget, and what was chosen."""
    last = summary[summary["budget"] == summary["budget"].max()]
    out = [f"{'at ' + format(last['budget'].iloc[0], '.0e'):<10}" + "".join(f"{name + ': loss':>28}{'success':>22}" for name in SETS)]  # fmt: skip
    for variant in last["variant"].unique():
        cells = [last[(last["variant"] == variant) & (last["set"] == name)].iloc[0] for name in SETS]
        out.append(f"{variant:<10}" + "".join(f"{interval(c, 'loss'):>28}{interval(c, 'success'):>22}" for c in cells))
    choice = last[last["set"] == SETS[0]]
    best = choice.loc[choice["loss"].idxmin(), "variant"]
    held = last[(last["set"] == SETS[1]) & (last["variant"] == best)].iloc[0]
    out.append(
        f"chosen on the targets of {SETS[0]}: {best}; on {held['targets']} others its loss less {PEER}'s is"
        f" {interval(held, f'loss_less_{PEER}')}, its success {interval(held, f'success_less_{PEER}')}"
    )
    return out


def interval(row: pd.Series, what: str) -> str:
    return f"{row[what]:.2f} [{row[f'{what}_lo']:.2f}, {row[f'{what}_hi']:.2f}]"


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Loss and success against operations on the held-out targets, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    held = summary[summary["set"] == SETS[1]]
    names = list(held["variant"].unique())
    for number, name in enumerate(names):
        rows = held[held["variant"] == name].sort_values("budget")
        moved = rows["budget"] * 1.03 ** (number - len(names) / 2)  # beside each other
        for axis, what in zip(axes, ("loss", "success"), strict=True):
            ends = np.abs(rows[[f"{what}_lo", f"{what}_hi"]].to_numpy().T - rows[what].to_numpy())
            axis.errorbar(moved, rows[what], ends, marker="o", ms=3, lw=1, capsize=2, color=f"C{number}", label=name)
    for axis, label in zip(axes, ("loss, nats a token", "success"), strict=True):
        axis.set(xscale="log", xlabel="operations", ylabel=label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    axes[1].set_ylim(-0.03, 1.03)
    figure.suptitle(f"Held-out random targets ({held['targets'].min()} targets, 95 % intervals)", fontsize=10)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
