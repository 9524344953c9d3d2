"""Dose and response: how refusal moves with the strength of an intervention, beside what matched directions do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from safety_geometry.causal.names import SHARED
from safety_geometry.figures.lettering import headline, legend_below, title
from safety_geometry.figures.modes import FAMILIES, HUES, MODES, carrier, checkpoints, handle, look, number, present
from safety_geometry.figures.notes import counts, seeds_note
from safety_geometry.figures.style import NoData, across_seeds, columns_for, draw, is_true, need

COLUMNS = 4
RANGE = (0.025, 0.975)


def dose_response(tables: dict[str, pd.DataFrame]) -> Figure:
    """Change of the refusal log-odds over λ: a line per mode, a band per carrier with 95 % of its pooled controls.

    Panels: family by checkpoint. λ = 0 is the clean run, 0 by definition. Under steering stands what λ = 1 adds, in
    mean norms of the activations there. A family with one strength has no dose: points with their values on bars, and
    the title says so. Only scope `layer` and the smallest rank are drawn where a
    sweep has more. Needs causal_sweep.
    """
    frame = need(tables, "causal_sweep", ["log_odds_delta", "lambda"]).dropna(
        subset=["log_odds_delta", "lambda", "family"]
    )
    if "capped" in frame:  # controls of less energy than their target
        frame = frame[~is_true(frame["capped"])]
    frame = principal(frame[frame["control"].isin(("target", *SHARED)) & frame["lambda"].ne(0)])
    families, modes = present(frame["family"], list(FAMILIES)), present(frame["mode"], list(MODES))
    parts = {family: checkpoints(frame[frame["family"] == family]) for family in families}
    columns = columns_for(max(len(part) for part in parts.values()), COLUMNS)
    lines = sum(-(-len(part) // columns) for part in parts.values())
    figure = Figure(figsize=(max(6.5, 1.0 + 2.7 * columns), 1.6 + 2.4 * lines))
    axes, top, doses = figure.subplots(lines, columns, squeeze=False), 0, {}
    for family, part in parts.items():
        below = top + -(-len(part) // columns)
        block, top = axes[top:below].ravel(), below
        strengths = doses[family] = sorted(set(frame.loc[frame["family"] == family, "lambda"]))
        for i, (ax, (place, rows)) in enumerate(zip(block, part, strict=False)):
            panel(ax, rows, modes, strengths)
            if family == "steer" and (added := doses_added(rows)):
                ax.set_xlabel(f"{ax.get_xlabel()}\n{added}")
            title(ax, f"{FAMILIES.get(family, family)}: {place}\n{numbers(rows)}", 2.35)
            ax.set_ylabel("" if i % columns else "change of refusal log-odds")
            ax.tick_params(labelleft=not i % columns)
        level(block[: len(part)])
        for ax in block[len(part) :]:
            ax.remove()
    acting = set(frame.loc[frame["control"] != "target", "mode"].map(carrier))
    several = any(len(strengths) > 1 for strengths in doses.values())
    entries = [handle(mode, linestyle="-" if several else "none") for mode in modes]
    entries += [
        Patch(color=HUES[kind], alpha=0.35, linewidth=0, label=f"controls of {kind}") for kind in HUES if kind in acting
    ]
    legend_below(figure, entries)
    alone = [FAMILIES.get(family, family).lower() for family, strengths in doses.items() if len(strengths) == 1]
    what = (
        "Refusal over the strength of an intervention"
        if several
        else "Refusal under interventions of one strength: no dose response"
    )
    missing = f"one strength of {' and '.join(alone)}: no dose response there; " if several and alone else ""
    headline(figure, what, f"{missing}shaded: 95 % of the pooled controls; {seeds_note(frame)}")
    return figure


def doses_added(rows: pd.DataFrame) -> str:
    """‖v‖/‖h‖ of the vectors that λ = 1 adds, by carrier; empty where the table has no doses."""
    targets = rows[rows["control"] == "target"]
    if "dose" not in targets or targets["dose"].isna().all():
        return ""
    size = (targets["dose"] / targets["lambda"].abs()).groupby(targets["mode"].map(carrier)).mean().dropna()
    return "λ = 1 adds " + ", ".join(f"{size[name]:.2g} ({name})" for name in ("H", "R") if name in size) + " of ‖h‖"


def numbers(rows: pd.DataFrame) -> str:
    """Prompts behind each value, and directions behind a band: the fewest and the most of a strength, mode and seed."""
    controls = rows[rows["control"] != "target"].groupby(["seed", "mode", "lambda"]).size()
    prompts = counts(rows, "n_log_odds") if "n_log_odds" in rows else ""
    if not len(controls):
        return prompts
    few, most = int(controls.min()), int(controls.max())
    return f"{prompts} prompts, {few}{f'-{most}' if most > few else ''} controls"


def principal(frame: pd.DataFrame) -> pd.DataFrame:
    """One scope and one rank, so that a line is one kind of intervention. Raises NoData when no target is left."""
    for column, first in (("scope", "layer"), ("rank", frame["rank"].min())):
        if (frame[column] == first).any():
            frame = frame[frame[column] == first]
    if not (frame["control"] == "target").any():
        raise NoData("the table causal_sweep has no target with a change of the log-odds at a strength other than 0")
    return frame


def panel(ax: Axes, rows: pd.DataFrame, modes: Sequence[str], strengths: Sequence[float]) -> None:
    """Bands and lines over λ; with one strength, bars and points by mode."""
    targets, controls = rows[rows["control"] == "target"], rows[rows["control"] != "target"]
    ax.axhline(0, color="#888888", linewidth=0.8, zorder=1)
    single = len(strengths) == 1
    for acting in HUES:
        band_controls = controls[controls["mode"].map(carrier) == acting]
        # A control that serves several modes stands in several rows: it counts once.
        band_controls = band_controls.drop_duplicates(
            ["seed", "control", "number", "control_seed_h", "control_seed_r", "layer_h", "layer_r", "lambda"]
        )
        by_strength = band_controls.groupby("lambda")["log_odds_delta"]
        band = pd.DataFrame({"lo": by_strength.quantile(RANGE[0]), "hi": by_strength.quantile(RANGE[1])})
        if not len(band):
            continue
        if single:
            lo, hi = band.iloc[0]
            x = [i for i, mode in enumerate(modes) if carrier(mode) == acting]
            ax.bar(x, hi - lo, 0.7, lo, color=HUES[acting], alpha=0.3, linewidth=0)
        else:
            band.loc[0.0] = 0.0
            band = band.sort_index()
            ax.fill_between(band.index, band["lo"], band["hi"], color=HUES[acting], alpha=0.25, linewidth=0)
            ax.plot(band.index, band, color=HUES[acting], linewidth=0.7, alpha=0.8, zorder=1.5)
    width = 0.012 * (max(strengths) - min(0.0, *strengths)) if not single else 0.0
    for i, mode in enumerate(modes):
        of_mode = targets[targets["mode"] == mode]
        if not len(of_mode):
            continue
        points = across_seeds(of_mode, "lambda", "log_odds_delta").drop(columns="seeds")
        style = {key: look(mode)[key] for key in ("color", "marker")}
        if single:
            draw(ax, points.assign(x=i), style | {"linestyle": "none", "markersize": 6})
            for value in points["value"]:
                words = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"
                ax.annotate(words, (i, value), (6, 0), textcoords="offset points", va="center", fontsize=7)
            continue
        points["x"] += width * (
            i - (len(modes) - 1) / 2
        )  # modes side by side, so that bars and equal values stay apart
        clean = pd.DataFrame({"x": [0.0], "value": [0.0], "lo": [np.nan], "hi": [np.nan]})
        points = pd.concat([points, clean], ignore_index=True).astype(float).sort_values("x", ignore_index=True)
        draw(ax, points, style | {"linestyle": "-"}, markevery=list(np.flatnonzero(points["x"] != 0)))
    if single:
        ax.set_xticks(range(len(modes)), [look(mode)["label"] for mode in modes])
        ax.set_xlim(-0.6, len(modes) - 0.4)
        ax.set_xlabel(f"mode, at λ = {number(strengths[0])}")
    else:
        ax.plot(0, 0, "o", color="black", markersize=3.5, zorder=3)
        shown = apart([0.0, *strengths])
        ax.set_xticks(shown, [number(s) for s in shown])
        ax.set_xlabel("strength λ")


def apart(strengths: Sequence[float]) -> list[float]:
    """Those that can be labelled without overlap, from the largest down; 0 first."""
    room = 0.09 * (max(strengths) - min(strengths))
    kept: list[float] = [0.0]
    for strength in sorted(strengths, key=lambda s: (-abs(s), s)):
        if all(abs(strength - other) >= room for other in kept):
            kept.append(strength)
    return sorted(kept)


def level(axes: Sequence[Axes]) -> None:
    """One vertical scale for the panels of a family."""
    for ax in axes:
        ax.use_sticky_edges = False  # bars keep a margin too
        ax.autoscale_view()
    ends = [ax.get_ylim() for ax in axes]
    for ax in axes:
        ax.set_ylim(min(lo for lo, _ in ends), max(hi for _, hi in ends))
