"""The figures of a run as bars, one chart below the other: ours dark, each peer in its colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot  # after the choice of what it draws with
from matplotlib.axes import Axes

from scripts.benches.harness import Measurement

__all__ = ["draw"]

OURS = "#1f3a5f"
PEERS = ("#d98e32", "#5b9279", "#a4a4a4", "#b0586b")


def draw(rows: Sequence[Measurement], file: Path, title: str) -> None:
    """Write an SVG or PNG, by the file's name, of all figures that belong to a chart."""
    charts: dict[str, list[Measurement]] = {}
    for row in rows:
        if row.chart:
            charts.setdefault(row.chart, []).append(row)
    heights = [len(chart) + 1.2 for chart in charts.values()]
    figure, places = pyplot.subplots(
        len(charts),
        1,
        figsize=(10, 0.34 * sum(heights) + 0.8),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(title, fontsize=10)
    for place, (name, chart) in zip(places.flat, charts.items(), strict=True):
        _bars(place, name, chart)
    figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def _bars(place: Axes, name: str, chart: Sequence[Measurement]) -> None:
    peers = list(dict.fromkeys(row.who for row in chart if row.who != "asof"))
    colours = {who: PEERS[at % len(PEERS)] for at, who in enumerate(peers)} | {"asof": OURS}
    bars = place.barh(
        [row.name for row in chart],
        [row.value for row in chart],
        color=[colours[row.who] for row in chart],
        height=0.7,
    )
    place.bar_label(bars, fmt=lambda value: f" {value:,.0f}", fontsize=8)
    for at, row in enumerate(chart):
        if row.goal is not None:
            place.plot([row.goal, row.goal], [at - 0.4, at + 0.4], color="black", linewidth=1.5)
    place.invert_yaxis()
    place.set_title(f"{name}, {chart[0].unit}", fontsize=9, loc="left")
    place.tick_params(labelsize=8)
    place.margins(x=0.12)
    place.spines[["top", "right"]].set_visible(False)
