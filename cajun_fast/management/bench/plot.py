"""A picture of latency against offered load, as SVG or PNG.

Laws: matplotlib is loaded only here; the extra ``bench`` brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

STYLES = (("p50_us", "-"), ("p99_us", "--"), ("p99.9_us", ":"))


def plot(curves: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw them. Raises ImportError with the remedy where matplotlib is not installed."""
    try:
        matplotlib = import_module("matplotlib")
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'cajun-fast[bench]'") from error
    matplotlib.use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for curve in curves:
        for colour, side in enumerate(curve["sides"]):
            for name, style in STYLES:
                axes.plot(
                    [point["offered"] for point in side["points"]],
                    [point[name] for point in side["points"]],
                    style,
                    color=f"C{colour}",
                    label=f"{side['label']}, {name.removesuffix('_us')}",
                )
        axes.set_title(curve["name"])
    axes.set_xlabel("offered, asks/s")
    axes.set_ylabel("latency from the moment it was due, µs")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
