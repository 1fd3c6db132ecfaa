"""How long a lost node's actors are away: node processes with default settings, killed or stopped, one after another.

    python bench/failover.py [--store etcd|sqlite] [--rounds 10] [--actors 50] [--sign KILL|STOP|HOLD]

From the signal: until the node is gone from the view of another member; until the first, and every one of its actors
answers again. HOLD blocks a node's event loop and holds its GIL for 30 s in the place of a signal: no actor may move.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import cajun_fast as cf
from cajun_fast.testing.etcd import throwaway_etcd

CLI = "from cajun_fast.management.cli import main; main()"
HERE = Path(__file__).resolve().parent
HOLD = 30.0


@cf.actor("where")
class Where(cf.Actor):
    def receive(self, message, context):
        if message == "hold":
            hold_the_gil(HOLD)
        return context.node_id


def hold_the_gil(seconds: float) -> None:
    """A call into C that does not let the GIL go."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


async def start(name: str, store: str, folder: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-c", CLI, "node", "--id", name, "--store", store, "--port", "0"]
    with open(f"{folder}/{name}.log", "ab") as log:  # noqa: ASYNC230 - between two measurements
        process = await asyncio.create_subprocess_exec(
            *command, "--import", "failover", stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["event"] == "ready"
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


async def place(system: cf.ClusterActorSystem, actor_id: str) -> str:
    while True:
        try:
            return await system.pid(actor_id).ask("where", timeout=1.0)
        except (cf.CajunError, TimeoutError):
            await asyncio.sleep(0.005)


async def holds(condition) -> None:
    while not condition():  # noqa: ASYNC110 - a bench looks from outside
        await asyncio.sleep(0.002)


async def one(system, processes, victim: str, sign: str, actors: int) -> dict[str, float]:
    ids = [f"{victim}-{n}-{time.monotonic_ns()}" for n in range(actors)]
    await asyncio.gather(*(system.create_actor_on_node("where", each, victim) for each in ids))
    await asyncio.gather(*(place(system, each) for each in ids))
    began = time.monotonic()
    result = {}
    if sign == "HOLD":
        system.pid(ids[0]).tell("hold")
    else:
        processes[victim].send_signal(getattr(signal, f"SIG{sign}"))

    async def gone():
        await holds(lambda: victim not in system.known_nodes)
        result["noticed"] = time.monotonic() - began

    async def back(each: str):
        while True:
            at = await place(system, each)
            if at != victim or sign == "HOLD":
                result.setdefault("first actor back", time.monotonic() - began)
                return at

    if sign == "HOLD":
        places = await asyncio.gather(*(back(each) for each in ids))
        result["moved"] = sum(at != victim for at in places)
        result.pop("noticed", None)
    else:
        await asyncio.gather(gone(), *(back(each) for each in ids))
    result["every actor back"] = time.monotonic() - began
    return result


async def measure(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = f"sqlite:///{folder}/cluster.db"
        if options.store == "etcd":
            store = await stack.enter_async_context(throwaway_etcd())
        names = ["a", "b", "c"]
        processes = dict(
            zip(names, await asyncio.gather(*(start(n, store, folder) for n in names)), strict=True)
        )
        builder = cf.ClusterConfig.Builder("client", store).with_messaging_port(0).as_client()
        rounds = []
        try:
            async with cf.ClusterFactory.create_cluster_system(builder.build()) as system:
                for number in range(options.rounds):
                    victim = names[number % 3]
                    leader = await system.manager.get_leader()
                    result = await one(system, processes, victim, options.sign, options.actors)
                    rounds.append(result)
                    shown = ", ".join(f"{key} {value:.2f}" for key, value in sorted(result.items()))
                    print(f"{options.sign} {victim} (leader {leader}): {shown}", flush=True)
                    if options.sign == "HOLD":
                        continue
                    await end(processes[victim])
                    processes[victim] = await start(victim, store, folder)
                    await holds(lambda: len(system.known_nodes) == 4)
                    await asyncio.sleep(1)
        finally:
            for process in processes.values():
                await end(process)
        for key in rounds[0]:
            values = [each[key] for each in rounds if key in each]
            print(f"{key}: median {statistics.median(values):.2f}, worst {max(values):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", choices=["sqlite", "etcd"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--actors", type=int, default=50)
    parser.add_argument("--sign", choices=["KILL", "STOP", "HOLD"], default="KILL")
    cf.run(measure(parser.parse_args()))
