"""One look for all pictures: titles that say the finding, axes with units, colours safe for colour-blindness and grey.

What this does not do: choose the picture. Each function returns its axes, so that a notebook can add to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "bars", "house_style", "lines", "panels"]

# Okabe and Ito (2008), ordered so that neighbours also differ in lightness; yellow is left out: too pale on white
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",  # a white card stays readable in a dark theme
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Use the course's look inside the block, whatever the reader's own matplotlib settings are."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast("Any", STYLE))
        mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)
        try:
            yield
        finally:
            # the first picture starts the notebook's backend, which turns this on for good: do not turn it off again
            interactive = mpl.is_interactive()
    mpl.interactive(interactive)


def panels(titles: Sequence[str], *, width: float = 4.6, height: float = 3.2) -> list[Axes]:
    """One row of empty axes, each with its title (the finding), which may be empty. Draw on them, then end the cell."""
    if not titles:
        raise ValueError("titles must name at least one panel, got none")
    import matplotlib.pyplot as plt

    with house_style():
        figure, axes = plt.subplots(1, len(titles), figsize=(width * len(titles), height), squeeze=False)
        if len(titles) == 1:  # from the edge of the picture: a long title has room beside long labels
            figure.suptitle(titles[0], x=0.01, ha="left", fontsize=STYLE["axes.titlesize"], fontweight="bold")
        else:
            for axis, title in zip(axes[0], titles, strict=True):
                axis.set_title(title, pad=14)  # room for the label of a reference line
    return list(axes[0])


def bars(
    values: Mapping[str, float],
    *,
    title: str = "",
    xlabel: str,
    highlight: Sequence[str] = (),
    errors: Mapping[str, float] | None = None,
    form: str = "{:.2f}",
    reference: tuple[float, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars with their numbers, first name on top.

    Args:
        values: name → value, in the order of the picture.
        title: the finding; leave it out with `ax`, which has one from `panels`.
        highlight: names drawn in the second colour and hatched (so that grey print shows them too).
        errors: half widths of the error bars, by name.
        reference: (value, text) of a dashed vertical line, for example chance.
    """
    if not values:
        raise ValueError("values must hold at least one bar, got none")
    axis = ax or panels([title], width=6.4, height=0.9 + 0.36 * len(values))[0]
    names = list(values)
    numbers = np.array([values[name] for name in names], dtype=float)
    spread = [errors.get(name, 0.0) for name in names] if errors else None
    with house_style():
        drawn = axis.barh(names, numbers, xerr=spread, color=COLOURS[0], height=0.62, ecolor="#333333", capsize=3)
    for name, patch in zip(names, drawn.patches, strict=True):
        if name in highlight:
            patch.set(facecolor=COLOURS[1], hatch="//", edgecolor="#5f4200")
    top = np.nanmax(np.abs(numbers)) or 1.0
    for row, number in enumerate(numbers):
        offset = (spread[row] if spread else 0.0) + 0.012 * top
        outwards, side = (number - offset, "right") if number < 0 else (number + offset, "left")
        axis.text(outwards, row, form.format(number), va="center", ha=side, fontsize=9)
    axis.set_xlim(right=top * 1.16 + (max(spread) if spread else 0.0))
    if (numbers < 0).any():
        axis.set_xlim(left=-top * 1.16 - (max(spread) if spread else 0.0))
    if reference:
        axis.axvline(reference[0], color="#333333", linestyle="--", linewidth=1)
        axis.annotate(
            reference[1],
            (reference[0], 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color="#333333",
        )
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(xlabel)
    return axis


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    xlabel: str,
    ylabel: str,
    log: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Lines with a legend; each has its own colour and marker. `series`: name → (x, y); `log`: "", "x", "y" or "xy"."""
    if not series:
        raise ValueError("series must hold at least one line, got none")
    axis = ax or panels([title], width=6.4, height=3.4)[0]
    for number, (name, (x, y)) in enumerate(series.items()):
        marker = MARKERS[number % len(MARKERS)] if len(x) <= 40 else None
        axis.plot(x, y, label=name, color=COLOURS[number % len(COLOURS)], marker=marker)
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    if len(series) > 1:
        axis.legend()
    return axis
