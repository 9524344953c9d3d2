"""Coupling and behaviour at the anchors, side by side (arXiv 2606.16349, Table 2 and Figure 1)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from safety_geometry.figures.lettering import headline, label_ends, wrapped
from safety_geometry.figures.notes import counts, fit_prompts, hollow_note, seeds_note, success
from safety_geometry.figures.style import GREY, HOLLOW, across_seeds, draw, looks, need, without_own

PANELS = (
    ("hrci_repr", "Coupling of the H and R carriers", "HRCI_repr (0 to 1)"),
    ("fixed_asr", "Fixed-source attack", "{success} (% of behaviours)"),
    ("any_refusal", "Refusal of safe look-alikes", "refused, partly or fully (%)"),
    ("benign_mean", "Benign helpfulness", "mean utility (0 to 2)"),
)
WIDTH = 4.0  # of a panel, inches
RING = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": GREY, "linestyle": "none"}
NULL = {"linewidth": 7, "alpha": 0.22}  # the range of shuffled labels
NOTHING = {"ha": "center", "va": "center", "fontsize": 8.5, "color": GREY}
SEED = {"marker": ".", "markersize": 4, "linestyle": "none", "alpha": 0.5}  # one of several


def five_anchor(tables: dict[str, pd.DataFrame]) -> Figure:
    """Four panels over the anchors: HRCI_repr, fixed ASR (unoptimised suffixes faint), any-refusal, benign mean. Lines
    are named at their ends, with their last value; what else is drawn in a panel stands below its title.

    Coupling of a checkpoint without an R of its own is hollow, at frozen sites; where there is none of either, the
    first panel says so. Needs five_anchor; coupling_controls, where given, adds the range of shuffled labels of each
    anchor, coupling the number of prompts behind the carriers and what is hollow.
    """
    frame = need(tables, "five_anchor", [name for name, _, _ in PANELS if name != "hrci_repr"])
    places = {step: i for i, step in enumerate(sorted(frame["step"].unique()))}
    frame = frame.assign(place=frame["step"].map(places))
    styles = looks(frame["regime"])
    shifts = {regime: 0.09 * (i - (len(styles) - 1) / 2) for i, regime in enumerate(styles)}
    figure = Figure(figsize=(10.4, 7.0))
    several, ends = len(set(frame["seed"])) > 1, {}
    axes = figure.subplots(2, 2).ravel()
    for ax, (metric, words, label) in zip(axes, PANELS, strict=True):
        ends[ax], drawn = [], []
        for regime, look in styles.items():
            rows, shift = frame[frame["regime"] == regime], shifts[regime]
            points = across_seeds(rows, "place", metric, f"{metric}_lo", f"{metric}_hi")
            draw(ax, points, look, shift)
            if metric == "hrci_repr" and len(lacking := without_own(rows, "place", metric)):
                draw(ax, lacking, look | HOLLOW, shift)
                drawn.append(hollow_note(tables) + (", mean of all seeds; full: of those that have an R" * several))
                points = points if len(points) else lacking
            if len(points):
                last = points["value"].iloc[-1]
                ends[ax].append((last, f"{regime} {shown(metric, last)}", look["color"]))
            if several:
                ax.plot(rows["place"] + shift, rows[metric], color=look["color"], **SEED)
            ring = across_seeds(rows[rows["anchor"] == "reference"], "place", metric)
            ax.plot(ring["x"] + shift, ring["value"], **RING)
            if metric == "fixed_asr" and rows["init_asr"].notna().any():
                faint = across_seeds(rows, "place", "init_asr").assign(lo=float("nan"), hi=float("nan"))
                draw(ax, faint, look | {"linestyle": ":"}, shift, alpha=0.45, linewidth=1.1, markersize=3)
                drawn.append("dotted: before the attack's optimisation")
            if metric == "hrci_repr" and null(ax, tables, regime, places, shift, look["color"]):
                drawn.append("pale bar: 95 % range with shuffled labels at that anchor")
        n = (
            fit_prompts(tables)
            if metric == "hrci_repr"
            else counts(frame, f"{metric}_n")
            if f"{metric}_n" in frame
            else ""
        )
        explain(ax, words + (f" ({n})" if n else ""), "; ".join(dict.fromkeys(drawn)))
        if metric == "hrci_repr" and not ends[ax]:
            ax.text(
                0.5,
                0.5,
                "no checkpoint has a refusal carrier, nor candidates for one\n(tables/selection.csv says why)",
                **NOTHING,
                transform=ax.transAxes,
            )
        ax.set_ylabel(label.format(success=success(frame)))
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlim(-0.35, len(places) - 0.65)
        ax.set_xlabel("anchor (optimiser step)")
        if metric in ("fixed_asr", "any_refusal"):
            ax.set_ylim(-0.04, 1.04)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        elif metric == "benign_mean":
            ax.set_ylim(-0.08, 2.08)
    axes[0].set_ylim(0, max(0.1, axes[0].get_ylim()[1]))  # a coupling near nothing looks it
    marks = f"{'; dots: single seeds, n of each' if several else ''}; ring: the regime's reference"
    headline(figure, "Coupling and behaviour at the anchors", seeds_note(frame, "95 % intervals") + marks)
    label_ends(figure, ends)
    return figure


def null(
    ax: Axes, tables: dict[str, pd.DataFrame], regime: str, places: dict[int, int], shift: float, colour: str
) -> bool:
    """The 95 % range of HRCI_repr with shuffled labels behind each point, from the same anchor; the mean of the seeds'
    ends. Says whether there is any."""
    controls = tables.get("coupling_controls")
    if controls is None:
        return False
    mine = controls[
        (controls["companion"] == "shuffled") & (controls["quantity"] == "hrci_repr") & (controls["regime"] == regime)
    ]
    mine = mine[mine["anchor"].notna() & mine["step"].isin(places)]
    range_ = mine.groupby("step")[["lo", "hi"]].mean().dropna()
    x = range_.index.map(places).astype(float) + shift
    ax.vlines(x, range_["lo"], range_["hi"], color=colour, zorder=0, **NULL)
    return bool(len(range_))


def explain(ax: Axes, words: str, drawn: str) -> None:
    """The panel's title, and in small print below it what its marks are."""
    small = wrapped(drawn, WIDTH, 7.5)
    ax.set_title(wrapped(words, WIDTH, 9.5), pad=6 + (9.5 * (small.count("\n") + 1) if small else 0))
    if small:
        ax.text(0, 1.015, small, transform=ax.transAxes, va="bottom", fontsize=7.5, color=GREY, linespacing=1.05)


def shown(metric: str, value: float) -> str:
    """A value as its axis has it: per cent of prompts, else two digits."""
    return f"{value:.0%}".replace("%", " %") if metric in ("fixed_asr", "any_refusal") else f"{value:.2f}"
