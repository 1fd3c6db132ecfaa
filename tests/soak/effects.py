"""Effects once, over real processes that are killed with -9, one after the other, under load from many senders.

    .venv/bin/python -m tests.soak.effects [--kills 10] [--senders 30] [--ledgers 12] [--store http://127.0.0.1:2379]

Three node processes host durable actors; senders of a fourth one ask, send and tell them, and have them pay each other
by their outboxes. Every message has a number per sender and actor, and the actor's state says whether each has changed
it once and in order. Ends with 1 if one was lost, doubled or out of order, or if a sender heard an error. Without a
store it takes a fresh sqlite file; an etcd must be a fresh one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cajun_fast as cf
from tests.cluster.test_processes import Nodes

HOSTS = "abc"


class Load:
    """Many senders, and what they have sent."""

    def __init__(self, system: cf.ClusterActorSystem, ledgers: list[str]) -> None:
        self.system, self.ledgers = system, ledgers
        self.sent: Counter[tuple[str, str]] = Counter()
        self.errors: list[str] = []
        self.over = asyncio.Event()

    async def send(self, name: str, chance: random.Random) -> None:
        """Until it is over: one message after the other, to any ledger."""
        while not self.over.is_set():
            target = chance.choice(self.ledgers)
            payee = chance.choice(self.ledgers) if chance.random() < 0.5 else ""
            self.sent[name, target] += 1
            message = [name, self.sent[name, target], "" if payee == target else payee]
            pid = self.system.pid(target)
            try:
                match chance.randrange(3):
                    case 0:
                        await pid.ask(message, timeout=90.0)
                    case 1:
                        await pid.send(message)
                    case _:
                        pid.tell(message)
                        await asyncio.sleep(0.002)
            except (cf.CajunError, TimeoutError) as error:
                self.errors.append(f"{name} to {target}: {error!r}")


async def soak(options: argparse.Namespace, nodes: Nodes) -> list[str]:
    """What went wrong."""
    await nodes.start(*HOSTS)
    ledgers = [f"ledger-{number}" for number in range(options.ledgers)]
    chance = random.Random(options.seed)
    async with nodes.client() as system:
        for number, each in enumerate(ledgers):
            await system.create_actor_on_node("ledger", each, HOSTS[number % len(HOSTS)])
        load = Load(system, ledgers)
        names = [f"s{number}" for number in range(options.senders)]
        tasks = [asyncio.create_task(load.send(name, random.Random(chance.random()))) for name in names]
        for number in range(1, options.kills + 1):
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            victim = chance.choice(HOSTS)
            await nodes.signal(victim, signal.SIGKILL)
            await asyncio.sleep(chance.uniform(0.0, 4.0))
            await nodes.start(victim)
            print(  # noqa: T201
                f"kill {number} of {victim}: {load.sent.total()} sent, {len(load.errors)} errors", flush=True
            )
        load.over.set()
        await asyncio.gather(*tasks)
        wrong = await verdict(system, load)
        dead = dict(system.dead_letters.counts)
    statuses = await nodes.stop()
    return [*load.errors, *wrong, *([f"dead letters: {dead}"] if dead else []), *_bad(statuses)]


def _bad(statuses: list[int]) -> list[str]:
    return [f"a node ended with status {status}" for status in statuses if status]


async def verdict(system: cf.ClusterActorSystem, load: Load) -> list[str]:
    """Wait until every outbox has arrived, then compare."""
    end = time.monotonic() + 60
    while True:
        states: dict[str, Any] = {
            each: await system.pid(each).ask("state", timeout=60.0) for each in load.ledgers
        }
        wrong = list(differences(states, load.sent))
        if not wrong or time.monotonic() > end:
            payments = sum(sum(paid.values()) for _, _, paid in states.values())
            print(  # noqa: T201
                f"{load.sent.total()} messages and {payments} payments compared, {len(wrong)} differences",
                flush=True,
            )
            return wrong
        await asyncio.sleep(0.5)


def differences(states: dict[str, Any], sent: Counter[tuple[str, str]]) -> list[str]:
    """Between what was sent and what the states say."""
    due = dict(sent)
    for payer, (_, _, paid) in states.items():
        due |= {(payer, payee): count for payee, count in paid.items()}
    found = [f"{target} saw {each}" for target, (_, wrong, _) in states.items() for each in wrong]
    for (sender, target), count in due.items():
        came = states[target][0].get(sender, 0)
        if came != count:
            found.append(f"{sender} to {target}: {count} sent, {came} came")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--senders", type=int, default=30)
    parser.add_argument("--ledgers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cajun-effects-") as folder:
        nodes = Nodes(Path(folder))
        nodes.store = options.store or nodes.store
        nodes.module = "hosted_ledgers"
        nodes.environ = {"CAJUN_PERSISTENCE": f"sqlite:///{folder}/state.db?synchronous=normal"}
        nodes.settings = {"placement.rehost_timeout": "60"}
        wrong = cf.run(soak(options, nodes))
    print(*(wrong[:20] or ["every message counted once"]), sep="\n", flush=True)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
