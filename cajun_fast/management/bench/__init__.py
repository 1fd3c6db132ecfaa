"""``cajun-fast bench``: the workloads, each beside the plain way of doing the same.

Laws: two real processes a contestant, on loopback; all contestants of a case run in turns (A B C A B C …), so
that the machine's other work falls on all of them, and a result is the median of the ratios of neighbours.

    command   the command line          plan      which cases there are, and what each must reach
    rounds    turns, and their ratios   report    tables and JSON            plot   latency against load
    process   a contestant's two processes, seen from outside          worker   the same, from inside
    measure   one run of one workload   contestant  what can be measured: engine, floors, raw, zeromq, local
"""

from __future__ import annotations

from cajun_fast.management.bench.command import bench_command

__all__ = ["bench_command"]
