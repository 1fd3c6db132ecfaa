"""``cajun-fast node --trace``: one trace over real processes, without a line of code, and through a kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import cajun_fast as cf
from cajun_fast.errors import ConfigError
from cajun_fast.metrics.provider import provider_for
from cajun_fast.metrics.tracing import trace

from .conftest import Command

pytestmark = pytest.mark.processes

StartNode = Callable[..., Command]
ACTORS = """
import cajun_fast as cf

class Gate(cf.Actor):
    async def receive(self, message, context):
        return await context.system.pid("till").ask(message, timeout=30)

class Till(cf.Actor):
    durable = True
    def __init__(self):
        self.sum = 0
    def get_state(self):
        return self.sum
    def set_state(self, state):
        self.sum = state
    def receive(self, message, context):
        self.sum += message
        context.system.pid("ledger").tell(self.sum)
        return self.sum

class Ledger(cf.Actor):
    async def receive(self, message, context):
        assert await context.system.group("news").send(message, timeout=30) == 2

class Reader(cf.Actor):
    async def pre_start(self):
        await self.context.subscribe("news")
    def receive(self, message, context):
        if message != "again":
            context.schedule(0.01, "again")

for kind in (Gate, Till, Ledger, Reader):
    cf.actor(kind.__name__.lower())(kind)
"""
Span = dict[str, Any]
Collector = Callable[[], AbstractContextManager[tuple[str, list[Any]]]]
#: Nodes that are stopped for a moment by a busy machine are not lost.
CALM = ("--set", "membership.suspicion_timeout=20", "--set", "membership.lease_ttl=40")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "traced_actors.py").write_text(ACTORS)
    return tmp_path


def client(folder: Path) -> cf.ClusterActorSystem:
    builder = cf.ClusterConfig.Builder("client", f"sqlite:///{folder}/cluster.db").with_messaging_port(0)
    builder.with_setting("membership.suspicion_timeout", 20.0).with_setting("membership.lease_ttl", 40.0)
    return cf.ClusterFactory.create_cluster_system(builder.as_client().build())


def begin(start_node: StartNode, name: str, *more: str) -> Command:
    words = ("--import", "traced_actors", "--persistence", "sqlite:///state.db", *more)
    return start_node(name, "--trace", f"file:{name}.jsonl", *words)


def spans_in(folder: Path) -> list[Span]:
    """Of all processes; a line that a kill has cut off is none."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - other processes write these files
            await asyncio.sleep(0.05)


def where(span: Span) -> str:
    return f"{span['name']} {span['attributes'].get('cajun.node', '')}".strip()


def tree(spans: list[Span]) -> set[tuple[str, str]]:
    """(span, parent), each by its name and node."""
    known = {span["context"]["span_id"]: where(span) for span in spans}
    return {
        (where(span), known[span["parent_id"]] if span["parent_id"] else "")
        for span in spans
        if span["name"] not in ("route", "deliver")  # whether a message waited is a matter of luck
    }


async def test_one_trace_shows_what_three_processes_did_with_one_request(
    start_node: StartNode, folder: Path
) -> None:
    nodes = [begin(start_node, name, *CALM, "--set", "observability.trace_rate=0") for name in "abc"]
    for node in nodes:
        node.ready()
    provider = provider_for(f"file:{folder}/client.jsonl", "client")
    async with client(folder) as system:
        for kind, name, home in (
            ("gate", "gate", "a"), ("till", "till", "b"), ("ledger", "ledger", "c"),
            ("reader", "reader-a", "a"), ("reader", "reader-b", "b"),
        ):  # fmt: skip
            await system.create_actor_on_node(kind, name, home)
        assert await system.pid("gate").ask(1, timeout=30) == 1  # not traced
        trace(provider, system)
        with provider.get_tracer("test").start_as_current_span("request"):
            assert await system.pid("gate").ask(2, timeout=30) == 3
        await until(lambda: len([s for s in spans_in(folder) if s["name"] == "handle reader"]) >= 4)
    for node in nodes:
        node.signal(signal.SIGTERM)
        assert node.end()[0] == 0
    provider.shutdown()
    spans = spans_in(folder)
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    assert {span["resource"]["attributes"]["service.instance.id"] for span in spans} == {*"abc", "client"}
    assert tree(spans) == {
        ("request", ""),
        ("ask client", "request"),
        ("handle gate a", "ask client"),
        ("ask a", "handle gate a"),
        ("handle till b", "ask a"),
        ("tell b", "handle till b"),  # held until the commit
        ("handle ledger c", "tell b"),
        ("send c", "handle ledger c"),  # to the group
        *((f"handle reader {node}", "send c") for node in "ab"),
        *((f"schedule {node}", f"handle reader {node}") for node in "ab"),
        *((f"handle reader {node}", f"schedule {node}") for node in "ab"),
    }
    assert sum(span["name"] == "deliver" for span in spans) == 7
    ids = {s["attributes"].get("messaging.message.id") for s in spans if s["name"] == "handle gate"}
    assert ids <= {
        s["attributes"].get("messaging.message.id")
        for s in spans
        if where(s) in ("ask client", "route client")
    }
    assert None not in ids


async def test_a_killed_nodes_outbox_goes_on_in_the_trace_of_who_filled_it(
    start_node: StartNode, folder: Path
) -> None:
    nodes = {name: begin(start_node, name, "--set", "observability.trace_rate=0") for name in "ab"}
    for node in nodes.values():
        node.ready()
    async with client(folder) as system:
        trace(TracerProvider(), system)
        await system.create_actor_on_node("till", "till", "b")
        with TracerProvider().get_tracer("test").start_as_current_span("request") as request:
            assert await system.pid("till").ask(1, timeout=30) == 1  # committed, and told to nobody yet
        nodes["b"].signal(signal.SIGKILL)
        nodes["b"].process.wait()
        assert await system.pid("till").ask(1, timeout=60) == 2
        await system.create_actor_on_node("ledger", "ledger", "a")
        await until(lambda: any(where(span) == "handle ledger a" for span in spans_in(folder)))
    spans = spans_in(folder)
    assert {int(span["context"]["trace_id"], 16) for span in spans} == {request.get_span_context().trace_id}
    assert {("tell b", "handle till b"), ("handle ledger a", "tell b")} <= tree(
        [{**span, "parent_id": None} if where(span) == "handle till b" else span for span in spans]
    )


# ---- where spans go


@contextmanager
def over_grpc() -> Iterator[tuple[str, list[Any]]]:
    """A server that is sent OTLP by gRPC."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the exporter")
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    taken: list[Any] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - its name in the protocol
            taken.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", taken
    server.stop(None).wait()


@contextmanager
def over_http() -> Iterator[tuple[str, list[Any]]]:
    """A server that is sent OTLP by HTTP."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs cajun-fast[otlp]")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.parametrize(("protocol", "collector"), [("http/protobuf", over_http), ("grpc", over_grpc)])
async def test_a_node_begins_traces_and_sends_them_to_a_collector(
    start_node: StartNode, folder: Path, protocol: str, collector: Collector
) -> None:
    with collector() as (endpoint, taken):
        await send_a_trace(start_node, folder, endpoint, protocol)
    resources = [each for request in taken for each in request.resource_spans]
    labels = {label.key: label.value.string_value for each in resources for label in each.resource.attributes}
    assert (labels["service.name"], labels["service.instance.id"]) == ("shop", "a")
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    root = next(span for span in spans if not span.parent_span_id)
    assert root.name in ("ask", "tell")
    assert any(span.parent_span_id == root.span_id and span.name.startswith("handle") for span in spans)


async def send_a_trace(start_node: StartNode, folder: Path, endpoint: str, protocol: str) -> None:
    """By a node, which ends before this returns: all of its spans are sent."""
    words = ("--import", "traced_actors", "--persistence", "sqlite:///state.db", "--trace", "otlp", *CALM)
    said = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": "shop",
    }  # fmt: skip
    node = start_node("a", *words, **said)
    node.ready()
    async with client(folder) as system:
        await system.create_actor_on_node("gate", "gate", "a")
        await system.create_actor_on_node("till", "till", "a")
        for number in range(1, 4):
            assert await system.pid("gate").ask(1, timeout=30) == number
    node.signal(signal.SIGTERM)
    status, _, err = node.end()
    assert status == 0, err


def test_a_node_whose_collector_is_away_stops_in_time(start_node: StartNode, folder: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs cajun-fast[otlp]")
    node = start_node(
        "a", "--trace", "otlp", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )  # fmt: skip
    node.ready()
    node.signal(signal.SIGTERM)
    status, _, err = node.end()
    assert status == 0, err


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nowhere", "no exporter of that name is installed"),
        ("otlp_by_pigeon", "no exporter of that name is installed"),
        ("file:no/such/folder/spans.jsonl", "name a file that can be written"),
    ],
)
def test_a_place_that_is_none_is_told(where: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        provider_for(where, "a")
    assert repr(where) in str(told.value)


def test_the_command_ends_with_one_line_for_a_place_that_is_none(start_node: StartNode) -> None:
    status, out, err = start_node("a", "--trace", "nowhere").end()
    assert (status, out) == (2, "")
    assert "observability.trace='nowhere'" in err
    assert "Traceback" not in err


def test_spans_on_the_console_leave_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    provider = provider_for("console", "a")
    with provider.get_tracer("test").start_as_current_span("seen"):
        pass
    provider.shutdown()
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["name"] == "seen"
