"""``python -m cajun_fast.management.bench``: the same as ``cajun-fast bench``."""

from __future__ import annotations

from cajun_fast.management.bench.command import main

main()
