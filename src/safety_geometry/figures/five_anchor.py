"""Coupling and behaviour at the anchors, side by side (arXiv 2606.16349, Table 2 and Figure 1)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from safety_geometry.figures.style import GREY, across_seeds, counts, draw, headline, looks, need, seeds_note

PANELS = (
    ("hrci_repr", "Coupling of the H and R carriers", "HRCI_repr (0 to 1)"),
    ("fixed_asr", "Fixed-source attack", "attack success (% of behaviours)"),
    ("any_refusal", "Refusal of safe look-alikes", "refused, partly or fully (% of prompts)"),
    ("benign_mean", "Benign helpfulness", "mean utility (0 to 2)"),
)


def five_anchor(tables: dict[str, pd.DataFrame]) -> Figure:
    """Four panels over the anchors: HRCI_repr, fixed ASR (unoptimised suffixes faint), any-refusal, benign mean.

    Needs five_anchor; the shuffled floor comes from coupling_controls where that is given.
    """
    frame = need(tables, "five_anchor", [name for name, _, _ in PANELS])
    places = {step: i for i, step in enumerate(sorted(frame["step"].unique()))}
    frame = frame.assign(place=frame["step"].map(places))
    styles = looks(frame["regime"])
    figure = Figure(figsize=(9.6, 6.6))
    axes = figure.subplots(2, 2).ravel()
    for ax, (metric, title, label) in zip(axes, PANELS, strict=True):
        for i, (regime, look) in enumerate(styles.items()):
            rows = frame[frame["regime"] == regime]
            shift = 0.08 * (i - (len(styles) - 1) / 2)
            draw(ax, across_seeds(rows, "place", metric, f"{metric}_lo", f"{metric}_hi"), look, shift, label=regime)
            ring(ax, across_seeds(rows[rows["anchor"] == "reference"], "place", metric), shift)
            if metric == "fixed_asr" and rows["init_asr"].notna().any():
                faint = across_seeds(rows, "place", "init_asr").assign(lo=float("nan"), hi=float("nan"))
                draw(ax, faint, look | {"linestyle": ":"}, shift, alpha=0.4, linewidth=1.1, markersize=3)
        n = f" ({counts(frame, f'{metric}_n')})" if f"{metric}_n" in frame else ""
        ax.set_title(title + n)
        ax.set_ylabel(label)
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlim(-0.35, len(places) - 0.65)
        ax.set_xlabel("anchor (optimiser step)")
        if metric in ("fixed_asr", "any_refusal"):
            ax.set_ylim(-0.04, 1.04)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        elif metric == "benign_mean":
            ax.set_ylim(-0.08, 2.08)
    floor(axes[0], tables)
    if frame["init_asr"].notna().any():
        axes[1].plot(
            [], [], color=GREY, linestyle=":", marker=".", alpha=0.6, label="attack before optimisation (faint)"
        )
    found = [ax.get_legend_handles_labels() for ax in axes[:2]]
    handles = {name: handle for part in found for handle, name in zip(*part, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    headline(figure, "Coupling and behaviour at the anchors", seeds_note(frame, "95 % intervals"))
    return figure


def ring(ax, points: pd.DataFrame, shift: float) -> None:
    """A ring around the reference anchor of a regime."""
    ax.plot(points["x"] + shift, points["value"], "o", markersize=12, markerfacecolor="none", markeredgecolor=GREY,
            label="reference anchor")  # fmt: skip


def floor(ax, tables: dict[str, pd.DataFrame]) -> None:
    """Upper end of the shuffled-label range, highest over regimes and anchors; zero line below."""
    ax.set_ylim(bottom=0)
    controls = tables.get("coupling_controls")
    if controls is None:
        return
    null = controls[
        (controls["companion"] == "shuffled") & (controls["quantity"] == "hrci_repr") & controls["anchor"].notna()
    ]
    if len(null):
        label = "shuffled labels, highest 97.5 % point"
        ax.axhline(null["hi"].max(), color=GREY, linestyle=(0, (1, 1.5)), linewidth=1.4, label=label)
