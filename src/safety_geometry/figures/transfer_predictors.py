"""What transfer follows: |rho| of every predictor beside the greatest that ties permit."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.notes import first_seed, p_text, success
from safety_geometry.figures.style import GREY, INDIGO, NoData, need, striped

LABELS = {
    "target_hrci_repr": "target HRCI_repr",
    "target_hrci": "target HRCI",
    "target_fixed_asr": "target's fixed-source {success}",
    "target_refusal_score_drift": "target refusal-score drift",
    "target_h_drift": "target H drift",
    "target_h_norm": "target norm of H",
    "gap_hrci_repr": "HRCI_repr, target − source",
    "gap_refusal_score": "refusal score, target − source",
}
SINGLE = {"gcg": ("GCG alone", "<"), "autodan": ("AutoDAN alone", ">"), "seeds": ("unoptimised seeds", "x")}
DECIDES = 0.05
ORDER = ("r2d2", "sft", "sft_refusal")


def transfer_predictors(tables: dict[str, pd.DataFrame]) -> Figure:
    """One panel per regime: |ρ| of each predictor with all optimised attacks, its interval and tie ceiling, and each
    attack alone; ρ and p as text. All seeds together are drawn, single ones as hollow circles. Needs
    transfer_predictors."""
    frame = need(tables, "transfer_predictors", ["n"]).reset_index(drop=True)
    together, single = frame[frame["seed"].isna()], frame[frame["seed"].notna()]
    mine, note = (together, f"{single['seed'].nunique()} seeds together") if len(together) else first_seed(frame)
    lines = [name for name in LABELS if (frame["predictor"] == name).any()]
    if not lines:
        raise NoData(f"the table transfer_predictors has none of the predictors {', '.join(LABELS)}")
    regimes_there = set(mine["regime"])
    regimes = [*[r for r in ORDER if r in regimes_there], *sorted(regimes_there - set(ORDER))]
    figure = Figure(figsize=(2.4 + 3.5 * len(regimes), 2.3 + 0.42 * len(lines)))
    axes = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for ax, regime in zip(axes, regimes, strict=True):
        rows = mine[mine["regime"] == regime]
        others = single[(single["regime"] == regime) & (single["attack"] == "all")] if len(together) else single[:0]
        panel(ax, rows, others, lines)
        title(ax, f"{'across regimes' if regime == 'cross' else regime} {head(rows[rows['attack'] == 'all'])}", 3.7)
        ax.set_xlabel(f"|ρ| with transfer ({success(frame)})")
    axes[0].set_yticks(range(len(lines)), [LABELS[name].format(success=success(frame)) for name in lines])
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    single_attacks = {"color": INDIGO, "markersize": 4.5, "linestyle": "none"}
    entries = [
        Line2D([], [], color=INDIGO, marker="o", markersize=6, label="all optimised attacks, 95 % interval"),
        Line2D(
            [],
            [],
            color="black",
            marker="|",
            markersize=11,
            markeredgewidth=1.6,
            linestyle="none",
            label="greatest that ties permit",
        ),
    ]
    if mine.loc[mine["attack"] == "all", "p_smallest"].gt(DECIDES).any():
        entries.append(Line2D([], [], color=GREY, marker="o", linestyle="none", label="grey: p cannot be 0.05 or less"))
    entries += [Line2D([], [], marker=mark, label=text, **single_attacks) for attack, (text, mark) in SINGLE.items()
                if (mine["attack"] == attack).any()]  # fmt: skip
    if len(together):
        entries.append(Line2D([], [], marker="o", markerfacecolor="none", label="single seeds", **single_attacks))
    legend_below(figure, entries)
    headline(figure, "What does transfer between checkpoints follow?", note)
    return figure


def head(rows: pd.DataFrame) -> str:
    """How many rows and targets stand behind a panel, and what so few cannot show."""
    if not len(rows):
        return "(unoptimised attacks only)"
    n, targets, least = rows["n"].max(), rows["n_targets"].max(), rows["p_smallest"].min()
    words = f"(n = {n:.0f} rows, {targets:.0f} target{'' if targets == 1 else 's'})"
    if least > DECIDES:
        words += f"\ntoo few to show anything: no p can be below {least:.2g}"
    if not np.isfinite(rows["lo"]).any():
        words += "\nno intervals: fewer than 5 sources or targets"
    return words


def panel(ax: Axes, rows: pd.DataFrame, others: pd.DataFrame, lines: list[str]) -> None:
    """One regime; to the right of 1 the numbers in words."""
    ax.set_xlim(-0.03, 1.62)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.axvline(1, color="#CCCCCC", linewidth=0.8)
    striped(ax, len(lines))
    for i, name in enumerate(lines):
        by_attack = rows[rows["predictor"] == name].dropna(subset=["rho"]).set_index("attack")
        if not len(by_attack):
            ax.text(0.02, i, "unknown or the same everywhere", va="center", fontsize=7.5, color=GREY)
            continue
        shown = by_attack.loc["all", "p_smallest"] <= DECIDES if "all" in by_attack.index else True
        colour = INDIGO if shown else GREY
        singles = [attack for attack in SINGLE if attack in by_attack.index]
        for k, attack in enumerate(singles):
            ax.plot(
                abs(by_attack.loc[attack, "rho"]),
                i + 0.16 + 0.11 * k,
                SINGLE[attack][1],
                color=colour,
                markersize=3.8,
                zorder=3,
            )
        if "all" not in by_attack.index:
            continue
        row, y = by_attack.loc["all"], i - 0.12
        if np.isfinite(row["lo"]):
            low, high = sorted((abs(row["lo"]), abs(row["hi"])))
            ax.hlines(y, 0 if row["lo"] <= 0 <= row["hi"] else low, high, color=colour, linewidth=1.8)
        ax.plot(abs(row["rho"]), y, "o", color=colour, markersize=6, zorder=4)
        hollow = others.loc[others["predictor"] == name, "rho"].dropna().abs()
        ax.plot(hollow, [y] * len(hollow), "o", color=colour, markerfacecolor="none", markersize=5, zorder=3)
        if np.isfinite(row["rho_tie_ceiling"]):
            ax.plot(row["rho_tie_ceiling"], y, "|", color="black", markersize=11, markeredgewidth=1.6, zorder=2)
        ax.text(1.06, i - 0.02, f"ρ = {row['rho']:+.2f}".replace("-", "−"), va="bottom", fontsize=8)
        ax.text(
            1.06, i + 0.02, f"p {equals(row['p'])} (least {row['p_smallest']:.2g})", va="top", fontsize=7, color=GREY
        )


def equals(p: float) -> str:
    """`= 0.167` or `< 0.001`."""
    words = p_text(p)
    return words if words.startswith("<") else f"= {words}"
