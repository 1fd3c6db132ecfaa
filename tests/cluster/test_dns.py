"""Nodes found by DNS: a small server on loopback answers as a headless service does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

import cajun_fast as cf
from cajun_fast.config import NodeAddress
from cajun_fast.discovery import DnsDiscovery
from tests.cluster.conftest import Cluster, eventually

SERVICE = "_cajun._tcp.workers.test"


class Server(asyncio.DatagramProtocol):
    """Answers from a table; ``fault``: a code for everything, or "silent"."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.fault: Any = None
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        query = dns.message.from_wire(data)
        if self.fault == "silent":
            return
        response = dns.message.make_response(query)
        name, kind = query.question[0].name, query.question[0].rdtype
        key = (name.to_text().rstrip("."), kind.name)
        if self.fault is not None:
            response.set_rcode(self.fault)
        elif not any(known == key[0] for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif self.records.get(key):
            response.answer.append(dns.rrset.from_text(name, 0, "IN", kind.name, *self.records[key]))
        self.transport.sendto(response.to_wire(), address)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    made.port = transport.get_extra_info("sockname")[1]  # type: ignore[attr-defined]
    yield made
    transport.close()


def resolver(server: Any) -> Any:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers, made.port = ["127.0.0.1"], server.port
    return made


async def test_srv_records_name_ids_hosts_and_ports(server: Server) -> None:
    server.records[SERVICE, "SRV"] = [
        "0 50 8080 worker-0.workers.test.",
        "0 50 8081 worker-1.workers.test.",
        "0 50 0 .",
    ]
    found = await DnsDiscovery(SERVICE, resolver=resolver(server)).find()
    assert found == {
        "worker-0": NodeAddress("worker-0.workers.test", 8080),
        "worker-1": NodeAddress("worker-1.workers.test", 8081),
    }


async def test_a_and_aaaa_records_name_addresses(server: Server) -> None:
    server.records["workers.test", "A"] = ["10.0.0.1", "10.0.0.2"]
    server.records["workers.test", "AAAA"] = ["fd00::1"]
    found = await DnsDiscovery("workers.test", port=8080, resolver=resolver(server)).find()
    assert found == {ip: NodeAddress(ip, 8080) for ip in ("10.0.0.1", "10.0.0.2", "fd00::1")}
    named = DnsDiscovery("workers.test", port=1, id_of=lambda ip: f"n-{ip[-1]}", resolver=resolver(server))
    assert set(await named.find()) == {"n-1", "n-2"}


async def test_no_records_are_an_empty_answer_and_faults_are_errors(server: Server) -> None:
    server.records[SERVICE, "SRV"] = []
    discovery = DnsDiscovery(SERVICE, timeout=0.3, resolver=resolver(server))
    assert await discovery.find() == {}
    for fault in (dns.rcode.SERVFAIL, "silent"):
        server.fault = fault
        with pytest.raises(cf.DiscoveryError, match=SERVICE):
            await discovery.find()
    server.fault = None
    del server.records[SERVICE, "SRV"]
    with pytest.raises(cf.DiscoveryError, match=SERVICE):
        await discovery.find()


@pytest.mark.parametrize(
    "url", ["dns://workers.test", "http://x:1", "dns://", "dns://x:99999", "dns://x:1/path"]
)
def test_a_url_that_cannot_work_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(cf.ConfigError, match="dns://"):
        DnsDiscovery.from_url(url)


class Told:
    """A discovery that says what it is told to say."""

    def __init__(self, answer: Mapping[str, NodeAddress] | cf.CajunError) -> None:
        self.answer = answer

    async def find(self) -> Mapping[str, NodeAddress]:
        if isinstance(self.answer, cf.CajunError):
            raise self.answer
        return self.answer


async def test_joining_finds_nodes_and_no_answer_takes_any_away(cluster: Cluster) -> None:
    (b,) = await cluster.start("b")
    a = cluster.make("a", **{"membership.discovery_interval": 0.1})
    told = Told({"a": NodeAddress("127.0.0.1", 1), "b": NodeAddress("127.0.0.1", 2)})
    nodes = await a.join_cluster(told)
    cluster.members["a"] = a
    assert set(nodes) == {"a", "b"}
    assert dict(a._node.finder.found) == {"b": NodeAddress("127.0.0.1", 2)}, "never itself"
    await cluster.settle()

    async def answers(each: Any) -> bool:
        return await a.pid(each).ask("x", timeout=5) == "x"

    def echo(message: Any, context: Any) -> Any:
        return message

    await b.register(echo, "echo")
    assert await answers("echo")
    for answer in ({}, {"c": NodeAddress("h", 1)}, cf.DiscoveryError("the source is ill")):
        told.answer = answer
        await asyncio.sleep(0.3)
        assert set(a.known_nodes) == {"a", "b"}
        assert await answers("echo")
        assert "b" in a._node.finder.found
    assert await a.join_cluster() == a.known_nodes


async def test_an_address_that_discovery_knows_leads_where_the_record_does_not(cluster: Cluster) -> None:
    """The record names a port that nobody can reach from here; DNS, or a list, names the right one."""
    b = cluster.make("b", **{"messaging.advertised_port": 9})
    await b.start()
    a = cluster.make("a", **{"membership.discovery_interval": 0.1})
    told = Told({})
    await a.join_cluster(told)
    cluster.members |= {"a": a, "b": b}
    await cluster.settle()
    real = b._node.bound.port
    told.answer = {"b": NodeAddress("127.0.0.1", real + 1 if real < 65_000 else real - 1)}
    await eventually(lambda: "b" in a._node.finder.found)
    told.answer = {"b": NodeAddress("127.0.0.1", real)}
    await eventually(lambda: a._node.finder.found["b"].port == real)
    peer = a._node.messaging.peer("b")
    assert peer is not None
    assert [address.port for address in peer.addresses] == [9, real]
    assert set(a.known_nodes) == {"a", "b"}
