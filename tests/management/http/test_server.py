"""A node that serves HTTP itself: a real socket, a real stream, real certificates."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import cajun_fast as cf
from cajun_fast.management.http import HttpServer, HttpSettings
from tests.cluster.conftest import Cluster
from tests.management.conftest import Command


class Keeps(cf.Actor):
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def get_state(self) -> Any:
        return self.kept

    def set_state(self, state: Any) -> None:
        self.kept = state

    def receive(self, message: Any, context: Any) -> None:
        self.kept.append(message)


async def news(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name != "jobs":
            yield name, json.loads(line.removeprefix("data: "))


async def test_the_stream_tells_what_happens_and_ends_with_the_server(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    async with (
        HttpServer(a, HttpSettings()) as server,
        httpx.AsyncClient(base_url=server.url) as http,
        http.stream("GET", "/api/v1/events", timeout=20) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = news(answer.aiter_lines())
        name, data = await anext(seen)
        while name != "overview":
            name, data = await anext(seen)
        assert data["totals"]["nodes"] == 1
        await cluster.start("b")
        while (name, data.get("kind")) != ("happened", "node-joined"):
            name, data = await anext(seen)
        assert data["details"] == {"node": "b"}
        await asyncio.wait_for(server.stop(), 10)
        rest = [name async for name, _ in seen]
        assert set(rest) <= {"overview", "happened"}


async def test_nobody_watches_and_nothing_is_asked(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    async with HttpServer(a, HttpSettings()) as server, httpx.AsyncClient(base_url=server.url) as http:
        watch = server.app.state.console.watch
        async with http.stream("GET", "/api/v1/events", timeout=20) as answer:
            await anext(news(answer.aiter_lines()))
            assert watch.watchers == 1
        async with asyncio.timeout(20):
            while watch.watchers:  # noqa: ASYNC110 - it says so nowhere else
                await asyncio.sleep(0.05)
            await watch._task


async def test_a_drain_is_followed_step_by_step_and_a_reader_that_leaves_stops_nothing(
    cluster: Cluster,
) -> None:
    cluster.types.actor("keeps")(Keeps)
    a, b = await cluster.start("a", "b")
    for n in range(20):
        await b.register(Keeps, f"k{n}")
    async with (
        HttpServer(a, HttpSettings(writable=True)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=20) as http,
    ):
        job = (await http.post("/api/v1/nodes/b/drain?wait=0")).json()
        path = f"/api/v1/jobs/{job['id']}/events"
        async with http.stream("GET", path) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            name, first = await anext(news(answer.aiter_lines()))
            assert (name, first["id"], first["kind"]) == ("job", job["id"], "drain")
        async with http.stream("GET", path) as answer:
            seen = [data async for _, data in news(answer.aiter_lines())]
        moved = [each["progress"]["moved"] for each in seen if each["progress"]]
        assert moved == sorted(moved)
        last = seen[-1]
        assert last["state"] == "done", "and the stream has ended"
        assert (last["progress"]["phase"], last["result"]["moved"], last["result"]["complete"]) == (
            "done",
            20,
            True,
        )
        assert (await http.get("/api/v1/jobs/nobody/events")).status_code == 404
        console = server.app.state.console
        async with asyncio.timeout(20):
            while console.followers:  # noqa: ASYNC110 - it says so nowhere else
                await asyncio.sleep(0.05)


async def test_a_port_in_use_is_said(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    async with HttpServer(a, HttpSettings()) as server:
        with pytest.raises(cf.ConfigError, match="a port that is free"):
            await HttpServer(a, HttpSettings(port=server.port)).start()


async def test_with_client_certificates_a_stranger_is_turned_away(cluster: Cluster, tmp_path: Path) -> None:
    (a,) = await cluster.start("a")
    ca, other = trustme.CA(), trustme.CA()
    mine = ca.issue_cert("127.0.0.1")
    mine.private_key_pem.write_to_path(str(tmp_path / "key"))
    for blob in mine.cert_chain_pems:
        blob.write_to_path(str(tmp_path / "cert"), append=True)
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    settings = HttpSettings(
        certificate=str(tmp_path / "cert"), key=str(tmp_path / "key"), client_ca=str(tmp_path / "ca")
    )
    async with HttpServer(a, settings) as server:
        assert server.url.startswith("https://")

        async def status(issuer: trustme.CA | None, path: str) -> int:
            context = ssl.create_default_context()
            ca.configure_trust(context)
            if issuer is not None:
                issuer.issue_cert("operator@example.org").configure_cert(context)
            async with httpx.AsyncClient(verify=context, base_url=server.url) as http:
                return (await http.get(path)).status_code

        for path in ("/api/v1/nodes", "/dashboard/", "/dashboard/app.js", "/metrics"):
            assert await status(ca, path) == 200
            for stranger in (None, other):
                with pytest.raises(httpx.HTTPError):
                    await status(stranger, path)


@pytest.mark.processes
async def test_a_node_serves_it_and_stops_in_order_while_somebody_watches(start_node: Any) -> None:
    node: Command = start_node("a", "--http", "127.0.0.1:0")
    url = (await asyncio.to_thread(node.ready))["http"]
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/readyz")).json()["status"] == "ok"
        me = (await http.get("/api/v1/self")).json()
        assert (me["node"], me["writable"]) == ("a", False)
        async with http.stream("GET", "/api/v1/events", timeout=20) as answer:
            await anext(news(answer.aiter_lines()))
            node.signal(signal.SIGTERM)
            status, _, log = await asyncio.to_thread(node.end)
    assert status == 0, log
    assert "Traceback" not in log


@pytest.mark.processes
async def test_a_node_whose_http_cannot_be_served_says_why_and_leaves_nothing(start_node: Any) -> None:
    node: Command = start_node("a", "--http", "0.0.0.0:0")
    status, out, log = await asyncio.to_thread(node.end)
    assert (status, out) == (2, "")
    assert "http.token_file" in log
    assert len(log.strip().splitlines()) == 1
