"""Coupling and behaviour over all saves, when coupling changes level, and whether the two move together."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from safety_geometry.figures.lettering import headline, label_ends, legend_below, title
from safety_geometry.figures.modes import BROWN
from safety_geometry.figures.notes import candidates_note, counts, success
from safety_geometry.figures.style import (
    GREY,
    PURPLE,
    NoData,
    across_seeds,
    draw,
    need,
    panel_width,
    step_axis,
    striped,
)
from safety_geometry.figures.trajectory import BEHAVIOUR, SHORT
from safety_geometry.geometry.dense import SITES

QUANTITY, FROZEN = "hrci_repr", "hrci_repr_frozen"
FORMS = {"levels": ("levels", "black"), "first_differences": ("first differences", BROWN)}
WORDS = {
    "fixed_asr": "fixed-source {success}",
    "direct_asr": "direct {success}",
    "any_refusal": "refusal of look-alikes",
    "benign_refusal": "benign refusal",
    "benign_mean": "benign helpfulness",
    "usefulness": "harmful usefulness",
}


BAND, LEVEL = {"color": PURPLE, "alpha": 0.25, "linewidth": 0}, {"color": PURPLE, "linestyle": "--", "linewidth": 1.4}
MOVED = {"marker": "^", "color": GREY, "markersize": 5, "linestyle": "none"}
CEILING = {"marker": "|", "markersize": 7, "markeredgewidth": 0.9, "linestyle": "none"}
COLUMN_OF_N = 1.12  # where n stands beside the axis of ρ


def dense(tables: dict[str, pd.DataFrame]) -> Figure:
    """One column per regime. Above: HRCI_repr at frozen sites with its change point and interval, in grey that at
    selected sites.
    Middle: behaviour. Below: ρ of HRCI_repr with behaviour, levels and first differences, per block length, with its n.
    Change points, ρ and their intervals are the first seed's (crosses: ρ of the others), curves the mean over seeds.
    Needs trajectory, dense_correlations and coupling_transition; coupling, where given, tells where R is no R."""
    frame = need(tables, "trajectory", [FROZEN])
    if (rho := tables.get("dense_correlations")) is None:  # it may have no rows: too few saves with behaviour
        raise NoData("the table dense_correlations is missing")
    changes = need(tables, "coupling_transition", ["n"])
    regimes = list(dict.fromkeys(frame["regime"]))
    seed, seeds = min(frame["seed"]), len(set(frame["seed"]))
    rho = rho[(rho["predictor"] == QUANTITY) & (rho["sites"] == "frozen")].dropna(subset=["rho"])
    others, rho = rho[rho["seed"] != seed], rho[rho["seed"] == seed]
    outcomes = [name for name in WORDS if (rho["outcome"] == name).any()]
    lengths = sorted(rho["block_length"].dropna().astype(int).unique())
    lower = (0.34 + 0.09 * max(len(lengths), 1)) * max(len(outcomes), 2)
    room = panel_width(len(regimes), 3.7)
    figure = Figure(figsize=(max(7.4, room * len(regimes) + 0.9), 6.4 + lower))
    axes = figure.subplots(3, len(regimes), sharey="row", height_ratios=[2.2, 2.2, 0.4 + lower], squeeze=False)
    behaviour = [b for b in BEHAVIOUR if b[0] in frame and frame[b[0]].notna().any()]
    ends: dict[Axes, list] = {}
    for (top, middle, bottom), regime in zip(axes.T, regimes, strict=True):
        saves = frame[frame["regime"] == regime]
        first = saves[saves["seed"] == seed]
        ends[top], ends[middle] = [], []
        for column, colour, name in ((QUANTITY, GREY, "anchors' sites"), (FROZEN, "black", "frozen sites")):
            points = across_seeds(saves, "step", column)
            if len(points):
                draw(top, points, {"color": colour, "marker": "o", "linestyle": "-", "markersize": 3.0})
                ends[top].append((points["value"].iloc[-1], name, colour))
        mine = changes[(changes["regime"] == regime) & (changes["quantity"] == QUANTITY) & (changes["seed"] == seed)]
        title(top, f"{regime}\n{level_change(top, first, mine[mine['sites'] == 'frozen'])}", room - 0.6)
        relocations(top, first)
        for metric, _, colour, marker, scale in behaviour:
            points = across_seeds(saves, "step", metric)
            if len(points):
                points[["value", "lo", "hi"]] *= scale
                draw(middle, points, {"color": colour, "marker": marker, "linestyle": "-", "markersize": 3.5})
                ends[middle].append((points["value"].iloc[-1], SHORT[metric], colour))
        if not ends[middle]:
            middle.text(0.5, 0.5, "behaviour not measured", transform=middle.transAxes, ha="center", fontsize=8)
        middle.set_ylim(-0.04, 1.04)
        middle.sharex(top)
        top.tick_params(labelbottom=False)
        step_axis(middle, saves["step"])
        forest(bottom, rho[rho["regime"] == regime], outcomes, first)
        crosses(bottom, others[others["regime"] == regime], outcomes)
        bottom.set_xlabel("Spearman's ρ with HRCI_repr, frozen sites")
    axes[0, 0].set_ylabel("HRCI_repr")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel("share of prompts,\nor score / maximum")
    axes[2, 0].set_yticks(range(len(outcomes)), [WORDS[name].format(success=success(frame)) for name in outcomes])
    axes[2, 0].set_ylim(max(len(outcomes), 2) - 0.5, -0.5)
    moved = any(line.get_marker() == "^" and line.get_color() == GREY for ax in axes[0] for line in ax.lines)
    jumps = any(ax.patches for ax in axes[0])
    legend_below(figure, entries(frame, behaviour, rho, jumps, moved, len(others) > 0))
    bars = (
        f"bars: blocks of {', '.join(map(str, lengths))} saves, short above"
        if lengths
        else "fewer than 20 saves: no intervals"
    )
    note = (
        "one seed" if seeds == 1 else f"curves: mean of {seeds} seeds and their range; change, ρ and bars: seed {seed}"
    )
    headline(figure, "Do coupling and behaviour move together?", f"{bars}; {note}{candidates_note(tables)}")
    label_ends(figure, ends, room=0.65)
    return figure


def entries(frame: pd.DataFrame, behaviour: list, rho: pd.DataFrame, jumps: bool, moved: bool, others: bool) -> list:
    """The legend: everything that is drawn and not named where it stands."""
    out: list = []
    if jumps:
        out += [
            Patch(label="change of level, 95 % band", **BAND),
            Line2D([], [], label="level before and after it", **LEVEL),
        ]
    if moved:
        out.append(Line2D([], [], label="a carrier's site has moved", **MOVED))
    for metric, label, colour, marker, _ in behaviour:
        n = f" ({counts(frame, f'{metric}_n')})" if f"{metric}_n" in frame else ""
        out.append(Line2D([], [], color=colour, marker=marker, label=label.format(success=success(frame)) + n))
    for i, (text, colour) in enumerate(FORMS.values()):
        out.append(
            Line2D([], [], color=colour, marker="o", markerfacecolor="white" if i else colour, label=f"ρ of {text}")
        )
    if rho["rho_tie_ceiling"].notna().any():
        out.append(Line2D([], [], color="black", label="greatest |ρ| that ties permit", **CEILING))
    if others:
        out.append(Line2D([], [], color=GREY, marker="x", linestyle="none", label="ρ of other seeds"))
    return out


def level_change(ax: Axes, saves: pd.DataFrame, change: pd.DataFrame) -> str:
    """Band, levels and words of a change point."""
    if not len(change) or change["step"].isna().iloc[0]:
        n = int(change["n"].iloc[0]) if len(change) else len(saves)
        return f"{n} saves: too few for a change point"
    row = change.iloc[0]
    step, lo, hi = (int(row[name]) for name in ("step", "lo", "hi"))
    ax.axvspan(lo, hi, zorder=0, **BAND)
    before = saves["step"] < step
    for part in (saves[before], saves[~before]):
        level = part[FROZEN].mean()
        ax.plot([part["step"].min(), part["step"].max()], [level, level], zorder=3, **LEVEL)
    return f"change in ({lo}, {hi}], p = {row['p']:.2g} (least {row['p_smallest']:.2g})"


def relocations(ax: Axes, saves: pd.DataFrame) -> None:
    """A triangle on the axis at every save whose sites differ from those of the save before; no site is one, too."""
    saves = saves.sort_values("step", kind="stable")
    rows = saves[[name for name in SITES if name in saves]].itertuples(index=False)
    sites = [tuple(map(str, row)) for row in rows]
    moved = saves["step"][[i > 0 and site != sites[i - 1] for i, site in enumerate(sites)]]
    if len(moved):  # an empty line would count in the layout
        ax.plot(moved, np.zeros(len(moved)), transform=ax.get_xaxis_transform(), clip_on=False, zorder=4, **MOVED)


def why_not(saves: pd.Series) -> str:
    """Why an outcome has no ρ: its values at the saves of one seed."""
    known = saves.dropna()
    if not len(known):
        return "not measured"
    if len(known) < 3:
        return f"measured at {len(known)} save{'s' if len(known) > 1 else ''}: too few for ρ"
    return (
        f"the same at all {len(known)} saves: no ρ" if len(set(known)) == 1 else "no ρ: coupling is the same throughout"
    )


def forest(ax: Axes, rows: pd.DataFrame, outcomes: list[str], saves: pd.DataFrame) -> None:
    """ρ of each outcome, levels above first differences, n beside it; a bar per block length, shortest on top."""
    ax.set_xlim(-1.08, 1.52)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    striped(ax, len(outcomes), zero=True)
    if not outcomes:
        words = "fewer than three saves with behaviour"
        ax.text(0, 0, words, ha="center", va="center", fontsize=7.5, color=GREY).set_in_layout(False)
    for i, outcome in enumerate(outcomes):
        if not (rows["outcome"] == outcome).any():
            words = why_not(saves[outcome]) if outcome in saves else "not measured"
            ax.text(
                -1.0,
                i,
                words,
                va="center",
                fontsize=7.5,
                color=GREY,
                zorder=3,
                bbox={"color": "white", "pad": 1, "alpha": 0.8},
            )
        for j, (form, (_, colour)) in enumerate(FORMS.items()):
            by_length = rows[(rows["outcome"] == outcome) & (rows["form"] == form)].sort_values(
                "block_length", kind="stable"
            )
            gap, middle = 0.36 / max(len(by_length), 1), i - 0.22 + 0.42 * j
            for k, row in enumerate(by_length.itertuples()):
                y = i - 0.4 + 0.42 * j + gap * (k + 0.5)
                if np.isfinite(row.lo):
                    ax.hlines(y, row.lo, row.hi, color=colour, linewidth=1.1)
                face = "white" if j else colour
                ax.plot(row.rho, y, "o", color=colour, markerfacecolor=face, markersize=3.6, zorder=3)
            if len(by_length):
                n = f"n = {int(by_length['n'].iloc[0])}"
                ax.text(COLUMN_OF_N, middle, n, va="center", fontsize=6.5, color=colour)
                if np.isfinite(by_length["rho_tie_ceiling"].iloc[0]):
                    ends = by_length["rho_tie_ceiling"].iloc[0] * np.array([-1, 1])
                    ax.plot(ends, [middle, middle], color=colour, zorder=2, **CEILING)


def crosses(ax: Axes, rows: pd.DataFrame, outcomes: list[str]) -> None:
    """ρ of other seeds, which is the same at every block length, at the height of their form."""
    rows = rows.drop_duplicates(["seed", "outcome", "form"])
    for i, outcome in enumerate(outcomes):
        for j, (form, (_, colour)) in enumerate(FORMS.items()):
            values = rows.loc[(rows["outcome"] == outcome) & (rows["form"] == form), "rho"]
            ax.plot(values, [i - 0.19 + 0.42 * j] * len(values), "x", color=colour, markersize=4.5, zorder=3)
