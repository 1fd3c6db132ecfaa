"""What an operator can ask of a cluster and do to it: HTTP and the command line both speak through this.

Laws: everything goes through ``system.manager``, so nothing can be done here that a program could not do; what an
answer holds is plain data. Bad input raises before anything is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from cajun_fast.cluster.manager import ActorInfo, NodeInfo
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.errors import ActorNotFoundError, CajunError, ConfigError, NodeUnavailableError

#: Seconds that one node has for an answer.
PATIENCE = 2.0


class Operations:
    """See the module's laws."""

    def __init__(self, system: ClusterActorSystem) -> None:
        self.system = system

    @property
    def manager(self) -> Any:
        """``system.manager``. Raises NotRunningError before the start and after the stop."""
        self.system.incarnation  # noqa: B018 - raises where the system does not run
        return self.system.manager

    # ---- looking

    async def nodes(self) -> list[dict[str, Any]]:
        """All members, in order of id."""
        return [plain(info) for info in await self.manager.get_cluster_nodes()]

    async def node(self, node_id: str) -> dict[str, Any]:
        """One member, with everything that it says of itself. Raises NodeUnavailableError: there is none."""
        info = await self._info(node_id)
        row: dict[str, Any] = plain(info)
        try:
            row["snapshot"] = await self.manager.inspect(node_id, "snapshot", timeout=PATIENCE)
        except CajunError as error:
            row["error"] = str(error)
        return row

    async def _info(self, node_id: str) -> NodeInfo:
        infos = await self.manager.get_cluster_nodes()
        for info in infos:
            if info.node == node_id:
                return info  # type: ignore[no-any-return]
        mine = self.system.node_id  # of a command, which is no answer to anybody
        raise unknown_node(node_id, [info.node for info in infos if not info.is_client or info.node != mine])

    async def actors(
        self,
        *,
        prefix: str = "",
        node: str | None = None,
        type_name: str | None = None,
        limit: int = 100,
        after: str | None = None,
        revision: int | None = None,
    ) -> dict[str, Any]:
        """A page of all actors: those of the directory in order of id, then the sharded ones that run, in order of
        id; ``after`` and ``revision`` of an answer go into the next question. ``silent``: nodes that did not say
        which sharded ones they have, and why. Raises NodeUnavailableError for a node that does not live and has
        none."""
        rows: list[dict[str, Any]] = []
        if after is None or not is_sharded(after):
            page = await self.manager.get_cluster_actors(
                prefix=prefix, node=node, limit=limit, after=after, revision=revision
            )
            rows = [_row(info) for info in page.actors if type_name is None or info.type == type_name]
            revision = page.revision
            if page.after is not None:
                return {"actors": rows, "after": page.after, "revision": revision, "silent": {}}
            after = None
        if node is not None and not rows and after is None:
            await self._info(node)
        left = limit - len(rows)
        sharded = await self.manager.get_sharded_actors(
            prefix=prefix, node=node, type_name=type_name, limit=max(1, left), after=after, timeout=PATIENCE
        )
        if left == 0:  # they begin on the next page
            behind = rows[-1]["actor_id"] if sharded.actors else None
        else:
            rows += [_row(info) for info in sharded.actors]
            behind = sharded.after
        return {
            "actors": rows, "after": behind, "revision": revision or 0, "silent": dict(sharded.silent)
        }  # fmt: skip

    async def actor(self, actor_id: str) -> dict[str, Any]:
        """One actor, and how it stands on its node. Raises ActorNotFoundError."""
        info = await self._actor_info(actor_id)
        row = _row(info)
        try:
            row["here"] = await self.manager.inspect(info.node, "actor", timeout=PATIENCE, id=actor_id)
        except CajunError as error:
            row["error"] = str(error)
        return row

    async def _actor_info(self, actor_id: str) -> ActorInfo:
        if is_sharded(actor_id):
            page = await self.manager.get_sharded_actors(prefix=actor_id, limit=1, timeout=PATIENCE)
        else:
            page = await self.manager.get_cluster_actors(prefix=actor_id, limit=1)
        for info in page.actors:
            if info.actor_id == actor_id:
                return info  # type: ignore[no-any-return]
        where = "runs in" if is_sharded(actor_id) else "stands in the directory of"
        raise ActorNotFoundError(f"no actor {actor_id!r} {where} this cluster")

    async def dead_letters(
        self,
        *,
        node: str | None = None,
        target: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """The newest of all nodes or of one, the newest first; ``counts`` by reason, since the nodes' starts."""
        nodes = [(await self._info(node)).node] if node is not None else None
        answers = await self.manager.inspect_nodes(
            "dead-letters", nodes=nodes, timeout=PATIENCE, target=target, reason=reason, limit=limit
        )
        letters: list[dict[str, Any]] = []
        counts: dict[str, int] = {}
        silent: dict[str, str] = {}
        for name, answer in answers.items():
            if isinstance(answer, CajunError):
                silent[name] = str(answer)
                continue
            letters += [{"node": name, **letter} for letter in answer["letters"]]
            for why, count in answer["counts"].items():
                counts[why] = counts.get(why, 0) + count
        letters.sort(key=lambda letter: letter["age"])
        return {"total": sum(counts.values()), "counts": counts, "letters": letters[:limit], "silent": silent}

    async def explain(self, message_id: str) -> dict[str, Any]:
        """What became of a message that went to another node. Raises ConfigError for what is no message id."""
        try:
            found = await self.manager.explain(message_id, timeout=PATIENCE)
        except ValueError as error:
            raise ConfigError(f"{message_id!r} is no message id: {error}") from error
        return {**plain(found), "message_id": str(found.message_id)}

    async def leader(self) -> str | None:
        """Who leads, None during an election."""
        return await self.manager.get_leader()  # type: ignore[no-any-return]

    # ---- steering

    def can(self) -> list[str]:
        """What can be steered here."""
        names = {"migrate": "migrate_actor", "drain": "drain_node", "cordon": "cordon_node"}
        return ["elect", *(word for word, name in names.items() if hasattr(self.manager, name))]

    async def check_node(self, node_id: str) -> None:
        """Raises NodeUnavailableError: there is none."""
        await self._info(node_id)

    async def check_migration(self, actor_id: str, node_id: str) -> None:
        """Raises ActorNotFoundError, NodeUnavailableError, ConfigError (a client hosts no actors)."""
        await self._actor_info(actor_id)
        if (await self._info(node_id)).is_client:
            raise ConfigError(f"node {node_id!r} is a client and hosts no actors: choose another one")

    async def migrate(self, actor_id: str, node_id: str, *, without_state: bool = False) -> Any:
        """Move an actor. Raises what ``manager.migrate_actor`` raises."""
        return plain(await self.manager.migrate_actor(actor_id, node_id, without_state=without_state))

    async def drain(
        self, node_id: str, tell: Callable[[Any], None] = lambda step: None, *, without_state: bool = False
    ) -> Any:
        """Move everything away from a node, and ``tell`` how far it is. Raises what ``manager.drain_node`` raises."""
        drain = self.manager.drain_node(node_id, without_state=without_state)
        async for step in drain:
            tell(plain(step))
        return plain(drain.result)

    async def cordon(self, node_id: str) -> Any:
        """Place no new actors on a node."""
        return plain(await self.manager.cordon_node(node_id))

    async def uncordon(self, node_id: str) -> Any:
        """Place actors on a node again."""
        return plain(await self.manager.uncordon_node(node_id))

    async def elect(self) -> dict[str, Any]:
        """Have the leader step down."""
        outcome: dict[str, Any] = plain(await self.manager.force_leader_election())
        return outcome


def _row(info: ActorInfo) -> dict[str, Any]:
    return {**plain(info), "sharded": is_sharded(info.actor_id)}


def unknown_node(node_id: str, living: list[str]) -> NodeUnavailableError:
    """Nobody of that name lives."""
    return NodeUnavailableError(
        f"no node {node_id!r} lives in this cluster (living: {', '.join(sorted(living)) or 'none'})", node_id
    )


def plain(value: Any) -> Any:
    """Results of the manager as JSON can hold them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_fields"):  # an address
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    return value
