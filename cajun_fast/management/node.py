"""``cajun-fast node``: one member of a cluster as a process, from its first line to its exit status.

Standard output gets one line of JSON once the node can serve, and nothing else; logs go to standard error.

Laws: what a user can set right ends as one line that names the value and the remedy, and status 2, with
nothing left running. SIGTERM and SIGINT stop in order, also during the start: status 0. A second one stops
at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cajun_fast as cf
from cajun_fast.metrics.log_fields import LogFields

if TYPE_CHECKING:
    from cajun_fast.management.http import HttpServer

log = logging.getLogger("cajun_fast.node")

#: Seconds that a node whose standard input has closed may take for its stop.
STOP_GRACE = 8.0
#: And what is left of its spans may take for its way out.
SPANS_GRACE = 3.0

Door = Callable[[cf.ClusterActorSystem], "HttpServer"]


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How the process behaves; what the node is stands in its ClusterConfig."""

    stop_on_eof: bool = False


def run_node(config: cf.ClusterConfig, options: NodeOptions) -> None:
    """Serve until a signal comes. Raises CajunError for what a user can set right."""
    put_on_path(os.getcwd())
    import_modules(config.imports)
    door = http_door(config)
    spans = spans_of(config)
    try:
        cf.run(serve(config, options, door, spans))
    finally:
        if spans is not None:
            spans.end()


def http_door(config: cf.ClusterConfig) -> Door | None:
    """What serves management over HTTP, if that is wanted. Raises ConfigError before anything is opened."""
    if config.http.listen is None:
        return None
    try:
        from cajun_fast.management.http import HttpServer, HttpSettings
    except ImportError as error:
        raise cf.ConfigError(
            f"setting http.listen={config.http.listen!r} needs more packages ({error}): pip install 'cajun-fast[http]'"
        ) from error
    settings = HttpSettings.of(config.http)
    return lambda system: HttpServer(system, settings)


def spans_of(config: cf.ClusterConfig) -> Spans | None:
    """What makes spans, if that is wanted. Raises ConfigError before anything is opened."""
    where = config.observability.trace
    if where is None:
        return None
    try:
        return Spans(where, config)
    except ImportError as error:
        raise cf.ConfigError(
            f"setting observability.trace={where!r} needs more packages ({error}): pip install 'cajun-fast[otel]'"
        ) from error


class Spans:
    """The spans of this process: of its node's messages, and of whatever records to OpenTelemetry's global provider."""

    def __init__(self, where: str, config: cf.ClusterConfig) -> None:
        """Raises ImportError, ConfigError."""
        from opentelemetry import trace as api

        from cajun_fast.metrics.provider import provider_for

        self._rate = config.observability.trace_rate
        self._provider = provider_for(where, config.system_id)
        if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):  # else a module has set its own
            api.set_tracer_provider(self._provider)

    def follow(self, system: cf.ClusterActorSystem) -> None:
        from cajun_fast.metrics.tracing import trace

        trace(self._provider, system, rate=self._rate)

    def end(self) -> None:
        """After the node has stopped: the last ones go out."""
        from cajun_fast.metrics.provider import shut_down

        if not shut_down(self._provider, SPANS_GRACE):
            log.warning("the last spans were not taken within %g s: they are lost", SPANS_GRACE)


def put_on_path(folder: str) -> None:
    """Have modules of ``folder`` found, as ``python -m`` would."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def import_modules(names: Iterable[str]) -> None:
    """Import what registers actor types. Raises ConfigError for whatever goes wrong in there."""
    importlib.invalidate_caches()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            log.debug("import of %r", name, exc_info=True)
            raise cf.ConfigError(
                f"module {name!r} (--import, imports) cannot be imported: {type(error).__name__}: {error}; "
                "correct its name or its text, start in its folder, or add that folder to PYTHONPATH"
            ) from error


async def serve(
    config: cf.ClusterConfig, options: NodeOptions, door: Door | None = None, spans: Spans | None = None
) -> None:
    """From the start of the node to its stop; ``door`` serves HTTP beside it, ``spans`` show its messages."""
    stop = StopSignal()
    if options.stop_on_eof:
        stop.on_eof()
    system = cf.ClusterFactory.create_cluster_system(config)
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogFields(system))
    if spans is not None:
        spans.follow(system)
    http = door(system) if door is not None else None
    start = asyncio.ensure_future(_start(system, http))
    wanted = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((start, wanted), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            announce(system, http.url if http is not None else None)
            await wanted
        log.info("node %s stops: %s", config.system_id, stop.why)
        if start.done() and config.movement.drain_on_stop and not config.client:
            await drain(system)
    finally:
        wanted.cancel()
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError, cf.CajunError):
            await start  # a start that is broken off leaves nothing behind
        if http is not None:
            await http.stop()
        await system.stop()


async def drain(system: cf.ClusterActorSystem) -> None:
    """Move the actors to other nodes before the stop; what cannot move stops with this node."""
    try:
        result = await system.manager.drain_node(system.node_id)
    except cf.CajunError as error:
        log.warning("node %s stops without a drain: %s", system.node_id, error)
        return
    log.info("drained: %d actors moved in %.2f s", result.moved, result.seconds)
    for each in result.stayed:
        log.warning("actor %r stays and stops with this node: %s", each.actor_id, each.reason)


async def _start(system: cf.ClusterActorSystem, http: HttpServer | None) -> None:
    await system.start()
    if http is not None:
        await http.start()


def announce(system: cf.ClusterActorSystem, url: str | None = None) -> None:
    """Tell whoever started this process that it can serve."""
    log.info("node %s, life %d, serves at %s", system.node_id, system.incarnation, system.address)
    event = {
        "event": "ready",
        "node": system.node_id,
        "address": str(system.address),
        "incarnation": system.incarnation,
        "pid": os.getpid(),
        **({"http": url} if url is not None else {}),
    }
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except OSError as error:  # nobody reads: no reason not to serve
        log.warning("standard output takes nothing: %s", error)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the flush at exit would fail again


class StopSignal:
    """What ends a node: a signal, or the end of standard input."""

    def __init__(self) -> None:
        self.why = ""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)

    async def wait(self) -> None:
        """Until one of them comes."""
        await self._event.wait()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._event.is_set():
            log.warning("a second signal: stopping at once")
            logging.shutdown()
            os._exit(128 + number)
        self._set(f"signal {signal.Signals(number).name}")

    def _set(self, why: str) -> None:
        self.why = self.why or why
        self._event.set()

    def on_eof(self) -> None:
        """Stop when standard input closes, so that a node cannot outlive the program that started it."""
        watch = threading.Thread(target=_wait_for_eof, args=(self._from_thread,), name="stdin", daemon=True)
        watch.start()

    def _from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._set, "standard input was closed")


def _wait_for_eof(stop: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: it stops already
        stop()
    time.sleep(STOP_GRACE)  # in a thread of its own: the process lives on only where its loop is stuck
    os._exit(1)
