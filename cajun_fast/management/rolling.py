"""Restarting a whole cluster node by node, with nobody noticing: drain, restart, wait, go on.

Laws: one node at a time, the leader last, so that it changes once; nothing is restarted that is not empty,
unless that was asked for; a node that does not come back ends the roll, and what was not begun is left as it
is. The restart itself is somebody else's: a command, or whoever watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cajun_fast.cluster.manager import ClusterManager, NodeInfo
from cajun_fast.cluster.movement.results import DrainProgress, DrainResult
from cajun_fast.cluster.steps import Steps
from cajun_fast.errors import ConfigError, NodeUnavailableError

#: Seconds between two looks at the members.
LOOK = 0.1

Restart = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One node's turn: ``what`` is "draining" (see ``progress``), "drained", "restarting", "back" or "failed"."""

    node: str
    what: str
    detail: str = ""
    progress: DrainProgress | None = None


@dataclass(frozen=True, slots=True)
class RollResult:
    """``done``: nodes that are back, in order; ``failed``: the one that ended the roll, ``reason`` says why."""

    done: tuple[str, ...]
    failed: str | None
    reason: str
    moved: int
    seconds: float


def roll(
    manager: ClusterManager,
    restart: Restart,
    *,
    nodes: Sequence[str] = (),
    drain_timeout: float | None = None,
    restart_timeout: float = 120.0,
    without_state: bool = False,
    force: bool = False,
) -> Steps[Step, RollResult]:
    """Await it, or follow it step by step. ``restart``: has a node end and start again; ``force``: also one with actors
    that cannot move. One that is cancelled, or whose loop is left, begins nothing more: the node whose turn it is stays
    cordoned, unless it has been restarted already.

    Raises, while it runs, NodeUnavailableError for a name that no node has, ConfigError for too few nodes.
    """
    work = Roll(
        manager,
        restart,
        nodes=tuple(nodes),
        drain_timeout=drain_timeout,
        restart_timeout=restart_timeout,
        without_state=without_state,
        force=force,
    )
    return Steps(work.run, lambda step: (step.node, step.what))


class Roll:
    """One roll; see the module's laws."""

    def __init__(
        self,
        manager: ClusterManager,
        restart: Restart,
        *,
        nodes: tuple[str, ...],
        drain_timeout: float | None,
        restart_timeout: float,
        without_state: bool,
        force: bool,
    ) -> None:
        self._manager = manager
        self._restart = restart
        self._nodes = nodes
        self._drain_timeout = drain_timeout
        self._restart_timeout = restart_timeout
        self._without_state = without_state
        self._force = force
        self._moved = 0

    async def run(self, tell: Callable[[Step], None]) -> RollResult:
        """All of them, one by one."""
        self._tell = tell
        loop = asyncio.get_running_loop()
        began = loop.time()
        done: list[str] = []
        for info in await self._plan():
            reason = await self._one(info)
            if reason:
                self._tell(Step(info.node, "failed", reason))
                return RollResult(tuple(done), info.node, reason, self._moved, loop.time() - began)
            done.append(info.node)
        return RollResult(tuple(done), None, "", self._moved, loop.time() - began)

    async def _plan(self) -> list[NodeInfo]:
        infos = {info.node: info for info in await self._manager.get_cluster_nodes() if not info.is_client}
        for name in self._nodes:
            if name not in infos:
                living = ", ".join(sorted(infos)) or "none"
                raise NodeUnavailableError(f"no node {name!r} lives in this cluster (living: {living})", name)
        chosen = [infos[name] for name in self._nodes or infos]
        if len(infos) < 2:
            raise ConfigError(
                "one node alone cannot be drained: its actors have nowhere to go; start another one"
            )
        return sorted(chosen, key=lambda info: info.is_leader)

    async def _one(self, info: NodeInfo) -> str:
        """One node's turn; why the roll cannot go on."""
        drain = self._manager.drain_node(
            info.node, without_state=self._without_state, timeout=self._drain_timeout
        )
        async for progress in drain:
            self._tell(Step(info.node, "draining", progress=progress))
        drained = drain.result
        self._moved += drained.moved
        if not drained.complete and not self._force:
            return why_not_empty(drained)
        self._tell(Step(info.node, "drained", f"{drained.moved} actors moved in {drained.seconds:.2f} s"))
        self._tell(Step(info.node, "restarting"))
        await self._restart(info.node)
        back = await self._wait_for(info)
        if back is None:
            return (
                f"it did not come back within {self._restart_timeout:g} s; it is not started by this command"
            )
        self._tell(Step(info.node, "back", f"life {back.incarnation}, version {back.version}"))
        return ""

    async def _wait_for(self, before: NodeInfo) -> NodeInfo | None:
        """Its next life, once it takes actors."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._restart_timeout
        while loop.time() < end:
            for info in await self._manager.get_cluster_nodes():
                if (
                    info.node == before.node
                    and info.incarnation > before.incarnation
                    and not info.is_cordoned
                ):
                    return info
            await asyncio.sleep(LOOK)
        return None


def why_not_empty(drained: DrainResult) -> str:
    """One line, with the first of the actors that stay."""
    first = (
        f"; for example {drained.stayed[0].actor_id!r}: {drained.stayed[0].reason}" if drained.stayed else ""
    )
    return f"it is not empty: {drained.reason or 'something is left'}{first}"
