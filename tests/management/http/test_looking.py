"""What the HTTP interface shows is what the cluster is; wrong questions get answers that help."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

import cajun_fast as cf
from cajun_fast.management.http.problems import MEDIA_TYPE
from tests.cluster.conftest import Cluster, eventually
from tests.management.http.conftest import Client, Echo


class Secretive(cf.Actor):
    """Has a state and says nothing of it."""

    def __init__(self) -> None:
        self.secret = 42

    def receive(self, message: Any, context: Any) -> Any:
        return self.secret


class Slow(cf.Actor):
    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate

    async def receive(self, message: Any, context: Any) -> None:
        await self.gate.wait()


def is_problem(answer: httpx.Response, status: int, text: str) -> bool:
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE), answer.text
    assert text in answer.json()["detail"], answer.text
    return True


async def test_nodes_and_who_leads(cluster: Cluster, client: Client) -> None:
    a, b = await cluster.start("a", "b")
    leader = await cluster.leader()
    http = client(a)
    nodes = (await http.get("/api/v1/nodes")).json()["nodes"]
    assert [(node["node"], node["address"]) for node in nodes] == [
        ("a", str(a.address)),
        ("b", str(b.address)),
    ]
    assert [node["node"] for node in nodes if node["is_leader"]] == [leader.node_id]
    assert (await http.get("/api/v1/leader")).json() == {"leader": leader.node_id}
    assert (await http.get("/api/v1/nodes/b")).json()["snapshot"]["node"] == "b"
    assert is_problem(await http.get("/api/v1/nodes/zz"), 404, "living: a, b")


async def test_actors_come_in_pages_and_are_chosen_by_prefix_node_and_type(
    cluster: Cluster, client: Client
) -> None:
    a, b = await cluster.start("a", "b")
    for n in range(7):
        await (a, b)[n % 2].register("echo", f"e/{n}")
    await a.register(lambda message, context: None, "f")
    http = client(a)
    first = (await http.get("/api/v1/actors", params={"prefix": "e/", "limit": 4})).json()
    assert [actor["actor_id"] for actor in first["actors"]] == ["e/0", "e/1", "e/2", "e/3"]
    rest = (
        await http.get(
            "/api/v1/actors",
            params={"prefix": "e/", "limit": 4, "after": first["after"], "revision": first["revision"]},
        )
    ).json()
    assert [actor["actor_id"] for actor in rest["actors"]] == ["e/4", "e/5", "e/6"]
    assert rest["after"] is None
    on_b = (await http.get("/api/v1/actors", params={"node": "b"})).json()["actors"]
    assert {actor["node"] for actor in on_b} == {"b"}
    typed = (await http.get("/api/v1/actors", params={"type": "echo"})).json()["actors"]
    assert "f" not in {actor["actor_id"] for actor in typed}
    assert len(typed) == 7


async def test_one_actor_is_shown_as_it_stands_also_with_slashes_in_its_id(
    cluster: Cluster, client: Client
) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Echo, "room/7")
    await a.pid("room/7").ask("hello")
    http = client(a)
    actor = (await http.get("/api/v1/actors/room/7")).json()
    assert (actor["node"], actor["here"]["handled"], actor["here"]["state"]) == ("b", 1, "running")
    assert is_problem(await http.get("/api/v1/actors/nobody"), 404, "'nobody'")


async def test_dead_letters_of_all_nodes_are_counted_and_shown(cluster: Cluster, client: Client) -> None:
    a, b = await cluster.start("a", "b")
    for system in (a, b):
        system.pid(f"lost-{system.node_id}").tell({"n": 1})
    await eventually(lambda: a.dead_letters.total == b.dead_letters.total == 1)
    http = client(a)
    everything = (await http.get("/api/v1/dead-letters")).json()
    assert (everything["total"], everything["silent"]) == (2, {})
    assert {(letter["node"], letter["target"]) for letter in everything["letters"]} == {
        ("a", "lost-a"),
        ("b", "lost-b"),
    }
    of_b = (await http.get("/api/v1/dead-letters", params={"node": "b"})).json()
    assert [letter["target"] for letter in of_b["letters"]] == ["lost-b"]
    assert is_problem(await http.get("/api/v1/dead-letters", params={"node": "zz"}), 404, "zz")


async def test_a_dead_letter_is_explained_by_its_id_from_any_node(cluster: Cluster, client: Client) -> None:
    a, b = await cluster.start("a", "b")
    gate = asyncio.Event()
    await b.register(Slow, "slow", gate, mailbox_capacity=1, mailbox_policy=cf.MailboxPolicy.DROP_NEW)
    for number in range(4):
        await a.pid("slow").send(number)
    (newest, *_) = (await client(b).get("/api/v1/dead-letters")).json()["letters"]
    assert newest["message_id"] == str(a.manager.last_message_id(a.pid("slow")))
    fate = (await client(a).get("/api/v1/explain", params={"id": newest["message_id"]})).json()
    assert (fate["stage"], fate["node"], fate["target"]) == ("let-go", "b", "slow")
    assert "(dead letter on node 'b': mailbox-full)" in fate["text"]
    assert is_problem(await client(a).get("/api/v1/actors", params={"node": "zz"}), 404, "zz")
    gate.set()


async def test_what_cannot_say_its_state_moves_only_if_it_may_begin_anew(
    cluster: Cluster, client: Client
) -> None:
    cluster.types.actor("secretive")(Secretive)
    a, _ = await cluster.start("a", "b")
    await a.register(Secretive, "e")
    http = client(a, writable=True)
    path = "/api/v1/actors/e/migrate?wait=30"
    stayed = (await http.post(path, json={"node": "b"})).json()["result"]
    assert (stayed["outcome"], stayed["target"]) == ("stayed", "b")
    assert stayed["reason"]
    moved = (await http.post(f"{path}&without_state=true", json={"node": "b"})).json()["result"]
    assert (moved["outcome"], moved["target"]) == ("moved", "b")
    emptied = (await http.post("/api/v1/nodes/b/drain?wait=30&without_state=true")).json()["result"]
    assert (emptied["complete"], emptied["moved"]) == (True, 1)


async def test_the_overview_has_rates_of_what_was_sent_meanwhile(cluster: Cluster, client: Client) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Echo, "e")
    http = client(a)
    await a.pid("e").ask(0)
    app_watch = (await http.get("/api/v1/overview")).json()
    assert {node["node"] for node in app_watch["nodes"]} == {"a", "b"}
    for n in range(300):
        await a.pid("e").ask(n)

    async def rates() -> bool:
        for n in range(50):
            await a.pid("e").ask(n)
        seen = (await http.get("/api/v1/overview")).json()
        link = next(link for link in seen["links"] if (link["node"], link["peer"]) == ("a", "b"))
        hot = {row["id"]: row for row in seen["hottest"]}
        return bool(link["messages_per_second"] > 10 and hot.get("e", {"rate": 0})["rate"] > 10)

    await eventually(rates)


async def test_sharded_actors_stand_behind_the_others_in_the_same_pages_and_filters(
    cluster: Cluster, client: Client
) -> None:
    cluster.settings["sharding.shard_count"] = 16
    for kind in ("account", "cart"):
        cluster.types.actor(kind, sharded=True)(type(kind.title(), (Echo,), {}))
    a, b = await cluster.start("a", "b")
    for n in range(3):
        await b.register(Echo, f"plain-{n}")
    accounts = [f"account#{n:02}" for n in range(20)]
    for each in (*accounts, "cart#1"):
        assert await a.pid(each).ask(1, timeout=30) == 1
    http = client(a)

    async def all_pages(**asked: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        while True:
            page = (await http.get("/api/v1/actors", params={**asked, **after})).json()
            assert page["silent"] == {}
            rows += page["actors"]
            if page["after"] is None:
                return rows
            assert page["actors"], "a page that is not the last one has something"
            after = {"after": page["after"], "revision": page["revision"]}

    everything = ["plain-0", "plain-1", "plain-2", *accounts, "cart#1"]
    for limit in (1, 3, 7, 24, 100):
        assert [row["actor_id"] for row in await all_pages(limit=limit)] == everything
    rows = await all_pages(prefix="account#")
    assert [row["actor_id"] for row in rows] == accounts
    assert {(row["type"], row["sharded"]) for row in rows} == {("account", True)}
    for node in ("a", "b"):
        here = [row["actor_id"] for row in rows if row["node"] == node]
        assert [row["actor_id"] for row in await all_pages(node=node, type="account", limit=4)] == here
    assert [row["actor_id"] for row in await all_pages(type="cart")] == ["cart#1"]
    one = (await http.get("/api/v1/actors/account%2307")).json()
    assert (one["sharded"], one["here"]["handled"]) == (True, 1)
    assert is_problem(await http.get("/api/v1/actors/account%2377"), 404, "runs in this cluster")


async def test_wrong_questions_are_problems_that_say_what_is_right(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a)
    assert is_problem(await http.get("/api/v1/actors", params={"limit": 0}), 422, "query.limit")
    assert is_problem(await http.get("/api/v1/nothing"), 404, "Not Found")
    assert is_problem(await http.delete("/api/v1/nodes"), 405, "Method")


async def test_probes_tell_a_node_that_serves_from_one_that_does_not(
    cluster: Cluster, client: Client
) -> None:
    (a,) = await cluster.start("a")
    http = client(a, token="t" * 20, names=("example.org",))
    for probe in ("/livez", "/readyz", "/healthz"):
        answer = await http.get(probe)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok"), probe
    a._node.membership.fenced = True
    assert (await http.get("/readyz")).json()["checks"] == {"running": True, "membership": False}
    assert (await http.get("/healthz")).status_code == 503
    a._node.membership.fenced = False
    await a.stop()
    assert (await http.get("/livez")).status_code == 200
    assert (await http.get("/readyz")).status_code == 503
    assert (await http.get("/healthz")).status_code == 503


async def test_before_the_start_and_after_the_stop_answers_say_so(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a)
    await a.stop()
    assert is_problem(await http.get("/api/v1/nodes"), 503, "is stopped")


async def test_numbers_for_prometheus_are_those_of_this_node(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    await a.register(Echo, "e")
    for n in range(5):
        await a.pid("e").ask(n)
    answer = await client(a).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'node="a"' in answer.text
    handled = [line for line in answer.text.splitlines() if line.startswith("cajun_") and " 5.0" in line]
    assert handled, answer.text[:2000]


async def test_the_fate_of_a_message_is_told(cluster: Cluster, client: Client) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Echo, "e")
    pid = a.pid("e")
    await pid.ask(1)
    pid.tell(2)
    message_id = a.manager.last_message_id(pid)
    assert message_id is not None
    await pid.ask(3)
    told = (await client(b).get("/api/v1/explain", params={"id": str(message_id)})).json()
    assert (told["message_id"], told["target"]) == (str(message_id), "e")
    assert told["text"]
    assert is_problem(await client(b).get("/api/v1/explain", params={"id": "nonsense"}), 422, "query.id")
