"""The conductor of the demo: starts everything, lets it trade, kills a node, has the books judged.

Laws: whatever happens, it ends, and leaves no process and no folder behind. It reads the books of the nodes
from their files, so the verdict does not rest on the engine that it judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import string
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cajun_fast as cf
from cajun_fast.management.demo import books
from cajun_fast.management.demo.accounts import PARTNERS, Plan, account_id
from cajun_fast.management.demo.books import Control, Ledger
from cajun_fast.management.demo.interrupts import interruptible
from cajun_fast.management.demo.nodes import LEASE_TTL, Nodes
from cajun_fast.management.demo.screen import Line, Meter, Sample, Screen, milliseconds, words_of
from cajun_fast.management.demo.verdict import Verdict, judge
from cajun_fast.management.logs import hush

FRAME = 0.2
#: Seconds that the accounts of the killed node may take to start elsewhere, and senders to settle.
FAILOVER_TIMEOUT = 15.0
DRAIN_TIMEOUT = 8.0
#: Seconds that transfers go on after the accounts are back, at least.
AFTERWARDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What was asked for."""

    nodes: int = 3
    actors: int = 30
    seconds: float = 10.0
    store: str = "sqlite"
    guarantee: cf.DeliveryGuarantee = cf.DeliveryGuarantee.EXACTLY_ONCE
    kill: bool = True
    as_json: bool = False
    seed: int = 0
    verbose: bool = False

    @classmethod
    def checked(cls, *, guarantee: str, seed: int | None, store: str, **rest: Any) -> Self:
        """From what was typed. Raises ConfigError."""
        try:
            parsed = cf.DeliveryGuarantee[guarantee.upper().replace("-", "_")]
        except KeyError:
            known = ", ".join(each.name.lower().replace("_", "-") for each in cf.DeliveryGuarantee)
            raise cf.ConfigError(f"--guarantee {guarantee!r} is unknown: give one of {known}") from None
        if store == "memory" or store.startswith("memory:"):
            raise cf.ConfigError(
                f"--store {store!r} lives inside one process, and the demo has several: use sqlite or etcd"
            )
        if store not in ("sqlite", "etcd") and "://" not in store:
            raise cf.ConfigError(f"--store {store!r} is no store: give sqlite, etcd or a URL")
        if rest["actors"] < rest["nodes"]:
            raise cf.ConfigError(
                f"--actors {rest['actors']} leaves nodes without an account: give at least --nodes {rest['nodes']}"
            )
        seed = random.SystemRandom().randrange(10_000) if seed is None else seed
        return cls(guarantee=parsed, seed=seed, store=store, **rest)


def run_demo(options: DemoOptions) -> int:
    """The exit status: 0 if the books balance, 1 if not, 130 after Ctrl-C (143 after SIGTERM)."""
    return cf.run(_interruptible(options))


async def _interruptible(options: DemoOptions) -> int:
    if not options.verbose:
        hush()
    show = Show(options, Screen(quiet=options.as_json))
    return await interruptible(show.run(), "demo: interrupted; all nodes are stopped")


class Show:
    """One demo, from start to verdict."""

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self.options = options
        self.screen = screen
        self.random = random.Random(options.seed)
        self.names = list(string.ascii_lowercase[: options.nodes])
        self.cluster = f"demo-{random.SystemRandom().getrandbits(48):012x}"
        self.meters = {name: Meter() for name in self.names}
        self.ledgers: dict[str, Ledger] = {}
        self.back_after: float | None = None
        self.traded = 0.0
        self._loop = asyncio.get_running_loop()

    async def run(self) -> int:
        """The exit status."""
        with tempfile.TemporaryDirectory(prefix="cajun-demo-") as name:
            self.folder = Path(name)
            self.control = Control(self.folder / "control", create=True)
            try:
                async with store_of(self.options.store, self.folder) as store:
                    verdict = await self._conduct(store)
            finally:
                self._close()
        return 0 if verdict.balanced else 1

    def _close(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()
        self.control.close()

    async def _conduct(self, store: str) -> Verdict:
        options = self.options
        self.screen.say(
            f"{options.nodes} node processes, {options.actors} accounts, store {options.store}, "
            f"{options.guarantee.name.lower().replace('_', '-')}, seed {options.seed}"
        )
        async with Nodes(self.names, store, self.cluster, self.folder, verbose=options.verbose) as nodes:
            self.nodes = nodes
            async with self._client(store) as client:
                self.client = client
                await self._open_accounts()
                with self.screen.running():
                    await self._trade()
                    await self._drain()
        return self._judge()

    def _client(self, store: str) -> cf.ClusterActorSystem:
        builder = cf.ClusterConfig.Builder("demo", store).with_messaging_port(0).as_client()
        config = builder.with_cluster_name(self.cluster).with_lease_ttl(LEASE_TTL).build()
        return cf.ClusterFactory.create_cluster_system(config)

    # ---- accounts

    async def _open_accounts(self) -> None:
        async with asyncio.timeout(10.0):
            while not self.client.known_nodes.keys() >= set(self.names):  # noqa: ASYNC110 - no such event
                await asyncio.sleep(0.01)
        room = asyncio.Semaphore(64)
        async with asyncio.TaskGroup() as group:
            for index in range(self.options.actors):
                group.create_task(self._open_account(index, room))
        for name in self.names:
            self.ledgers[name] = Ledger(self.folder / f"{name}.book")

    async def _open_account(self, index: int, room: asyncio.Semaphore) -> None:
        actors = self.options.actors
        plan = Plan(
            folder=str(self.folder),
            nodes=self.names,
            index=index,
            partners=self._partners(index),
            guarantee=self.options.guarantee.name,
            capacity=8 * actors * PARTNERS + 64,
        )
        async with room:
            await self.client.create_actor_on_node(
                "cajun-demo-account", account_id(index), self._home(index), plan.as_plain()
            )

    def _home(self, index: int) -> str:
        return self.names[index % len(self.names)]

    def _partners(self, index: int) -> list[int]:
        """Accounts on other nodes."""
        others = [i for i in range(self.options.actors) if self._home(i) != self._home(index)]
        return self.random.sample(others, min(PARTNERS, len(others)))

    # ---- the course of things

    async def _trade(self) -> None:
        options, began = self.options, self._loop.time()
        self.control.phase = Control.TRADE
        if options.kill:
            await self._watch(began + options.seconds / 2, "trading")
            await self._kill()
            await self._watch(
                max(began + options.seconds, self._loop.time() + AFTERWARDS), "trading, one node fewer"
            )
        else:
            await self._watch(began + options.seconds, "trading")
        self.control.phase = Control.CLOSE
        self.traded = self._loop.time() - began

    async def _watch(self, until: float, phase: str) -> None:
        while (now := self._loop.time()) < until:
            self._draw(phase)
            await asyncio.sleep(min(FRAME, until - now))

    async def _kill(self) -> None:
        victim = self.random.choice(self.nodes.all)
        was_leader = self.ledgers[victim.name].cells[books.AT_LEADER]
        killed_at = self._loop.time()
        await victim.kill()
        self.screen.say(
            f"node {victim.name} is killed with SIGKILL{' (it was the leader)' if was_leader else ''}"
        )
        orphans = [i for i in range(self.options.actors) if self._home(i) == victim.name]
        back = asyncio.gather(*(self._is_back(index) for index in orphans))
        try:
            async with asyncio.timeout(FAILOVER_TIMEOUT):
                while not back.done():
                    self._draw(f"trading, node {victim.name} killed, its accounts are started elsewhere")
                    await asyncio.wait((back,), timeout=FRAME)
                await back
        except TimeoutError:
            back.cancel()
            self.screen.say(f"accounts of node {victim.name} did not come back within {FAILOVER_TIMEOUT:g} s")
            return
        self.back_after = self._loop.time() - killed_at
        self.screen.say(f"its {len(orphans)} accounts are back on other nodes after {self.back_after:.1f} s")

    async def _is_back(self, index: int) -> None:
        pid = self.client.pid(account_id(index))
        while True:
            with contextlib.suppress(cf.CajunError):
                node, _ = await pid.ask(["where"], timeout=FAILOVER_TIMEOUT)
                if node != self._home(index):
                    return
            await asyncio.sleep(0.05)

    async def _drain(self) -> None:
        """Until every sender that lives knows how all of its transfers fared, or the time is over."""
        end = self._loop.time() + DRAIN_TIMEOUT
        settled_before = False
        while self._loop.time() < end:
            self._draw("closing: the last receipts come in")
            settled = self._is_settled()
            if settled and settled_before:
                return
            settled_before = settled
            await asyncio.sleep(0.05)

    def _is_settled(self) -> bool:
        return all(
            row[books.SENT] == row[books.SETTLED] or row[books.ENDED]
            for node in self.nodes.living
            for row in self.ledgers[node.name].rows()
            if row[books.KIND] == books.OUT
        )

    def _draw(self, phase: str) -> None:
        at = self._loop.time()
        self.screen.show(at, phase, [self._line(node.name, node.state, at) for node in self.nodes.all])

    def _line(self, name: str, state: str, at: float) -> Line:
        ledger = self.ledgers[name]
        handled = ledger.handled()
        rate, p50, p99 = self.meters[name].add(Sample(at, handled, ledger.histogram()))
        lives = state == "serving"
        shown = "leader" if lives and ledger.cells[books.AT_LEADER] else state
        accounts, links = (ledger.cells[at] if lives else 0 for at in (books.AT_ACCOUNTS, books.AT_PEERS))
        return Line(name, shown, accounts, links, rate, handled, p50, p99)

    # ---- the end

    def _judge(self) -> Verdict:
        states = {node.name: node.state for node in self.nodes.all}
        histogram = [
            sum(counts) for counts in zip(*(each.histogram() for each in self.ledgers.values()), strict=True)
        ]
        verdict = judge(
            [ledger.read(name, killed=states[name] == "killed") for name, ledger in self.ledgers.items()],
            self.options.guarantee,
        )
        if self.options.kill and self.back_after is None:
            verdict.blame("not back", 1, "accounts of the killed node did not start elsewhere")
        for name, state in states.items():
            verdict.blame("died", int(state == "died"), f"node {name} did not stop with status 0")
        self._tell(verdict, histogram)
        return verdict

    def _tell(self, verdict: Verdict, histogram: list[int]) -> None:
        p50, p99 = (books.percentile(histogram, share) for share in (0.5, 0.99))
        rate = verdict.handled / self.traded
        if self.options.as_json:
            print(json.dumps(self._as_plain(verdict, rate, p50, p99)))  # noqa: T201
            return
        self.screen.say("")
        for line in words_of(verdict):
            self.screen.say(line)
        self.screen.say(
            f"{rate:,.0f} transfers/s were handled over {self.traded:.1f} s, the killed node's pause among them. "
            f"A receipt, asked for behind up to 64 transfers of its stream and answered by the handler, took "
            f"{milliseconds(p50)} (median), {milliseconds(p99)} (99 of 100) under this load."
        )

    def _as_plain(self, verdict: Verdict, rate: float, p50: int | None, p99: int | None) -> dict[str, Any]:
        counts = (
            "streams",
            "sent",
            "delivered",
            "failed",
            "unknown",
            "unknown_handled",
            "open",
            "open_handled",
        )
        return {
            "balanced": verdict.balanced,
            "guarantee": verdict.guarantee.name,
            "seed": self.options.seed,
            **{name: getattr(verdict, name) for name in counts},
            "handled": verdict.handled,
            "sins": dict(verdict.sins),
            "examples": verdict.examples,
            "seconds": round(self.traded, 3),
            "transfers_per_second": round(rate),
            "receipt_p50_us": p50,
            "receipt_p99_us": p99,
            "accounts_back_after_seconds": self.back_after and round(self.back_after, 3),
        }


@contextlib.asynccontextmanager
async def store_of(store: str, folder: Path) -> AsyncIterator[str]:
    """The URL of a store while the demo runs."""
    if store == "etcd":
        async with _throwaway_etcd()() as url:
            yield url
    else:
        yield f"sqlite:///{folder}/cluster.db" if store == "sqlite" else store


def _throwaway_etcd() -> Callable[[], contextlib.AbstractAsyncContextManager[str]]:
    try:
        from cajun_fast.testing.etcd import throwaway_etcd
    except ImportError as error:
        raise cf.ConfigError(
            f"--store etcd cannot start a server of its own ({error}): pip install 'cajun-fast[test]', "
            "or name a running one by its URL"
        ) from error
    return throwaway_etcd
