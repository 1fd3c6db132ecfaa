"""Latency against offered load: asks at rising rates, each measured from the moment it was due.

Laws: all sides get the same rates, in turns; where one cannot keep up its latencies grow with the run, and
that is shown, not left out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cajun_fast.management.bench.histogram import Histogram
from cajun_fast.management.bench.measure import PERCENTILES
from cajun_fast.management.bench.plan import Side
from cajun_fast.management.bench.process import Pair

SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
SIDES = (
    Side("engine", "engine", {"transport": "unix"}),
    Side("plain, one write", "frames", {"transport": "unix", "joined": 1}),
)


def curve(rounds: int, seconds: float) -> dict[str, Any]:
    """Points up to what the first side answers at most."""
    with tempfile.TemporaryDirectory(prefix="cajun-bench-", ignore_cleanup_errors=True) as folder:
        pairs: list[Pair] = []
        try:
            pairs += [Pair(side.kind, side.options, Path(folder)) for side in SIDES]
            most = max(pairs[0].run(do="asks", count=20_000, size=64)["rate"] for _ in range(3))
            points = [[point(pair, share * most, rounds, seconds) for pair in pairs] for share in SHARES]
        finally:
            for pair in pairs:
                pair.close()
    sides = [{"label": side.label, "points": [at[i] for at in points]} for i, side in enumerate(SIDES)]
    return {"name": "asks, latency against offered load", "sides": sides}


def point(pair: Pair, rate: float, rounds: int, seconds: float) -> dict[str, Any]:
    """All runs at one rate, merged."""
    merged = Histogram()
    failed = 0
    for _ in range(rounds):
        run = pair.run(do="paced", count=max(int(rate * seconds), 10), size=64, rate=rate)
        merged.merge(Histogram.from_json(run["histogram"]))
        failed += run["failed"]
    found = {f"p{percent:g}_us": merged.percentile(percent) / 1e3 for percent in PERCENTILES}
    return {"offered": rate, "answers": merged.count, "failed": failed} | found
