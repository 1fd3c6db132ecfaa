"""Traces for OpenTelemetry: ``pip install 'cajun-fast[otel]'`` and an exporter of your choice.

    trace(tracer_provider, system)  # once for a system, before or after it starts

    tell ─▶ (route) ─▶ frame ═▶ (deliver: its time in the mailbox) ─▶ handle ─▶ tell …

Laws: a message is traced when a sampled span is current where it is sent; what a handler sends meanwhile belongs to its
span. Where no span is current, a message begins a trace as often as ``rate`` says: never by default. Messages of this
package's own actors (``cajun:…``) are not traced; what they pass on keeps its trace. Names of spans are few; ids are
attributes. A failure in the SDK is logged and never touches a message.
"""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from cajun_fast._core.instruments import Mark
from cajun_fast._core.lane import Exchange
from cajun_fast._core.tracing import Tracing
from cajun_fast._core.turns import Dispatcher

log = logging.getLogger("cajun_fast.metrics")

KINDS = {
    "tell": SpanKind.PRODUCER, "send": SpanKind.PRODUCER, "forward": SpanKind.PRODUCER, "ask": SpanKind.CLIENT,
    "schedule": SpanKind.PRODUCER, "publish": SpanKind.PRODUCER,
}  # fmt: skip
#: Verdicts of _core/ports.pxd, as the reason for which a message looks for a way.
REASONS = {0: "behind others", 1: "no room", 2: "not here", 3: "way not known", 6: "moving", 10: "durable"}
OWN = "cajun:"
T = TypeVar("T")


class System(Protocol):
    """What is needed of a system."""

    @property
    def incarnation(self) -> int: ...

    def trace_with(self, install: Callable[[Dispatcher], None]) -> None: ...


def trace(provider: api.TracerProvider, system: System, *, rate: float = 0.0) -> None:
    """Trace the messages of ``system`` with spans of ``provider``. Once for a system; again, with another provider,
    changes it for messages from then on. ``rate``: about so many traces a second, at most, begin with a message that is
    sent where no span is current; the provider's sampler is asked about each of them.

    Raises NotRunningError once the system has stopped, ValueError for a rate below 0."""
    if not rate >= 0:
        raise ValueError(f"rate={rate!r} is no number of traces a second: give 0 or more")
    tracer = provider.get_tracer("cajun_fast")

    def install(dispatcher: Dispatcher) -> None:
        dispatcher.base.run(contexts.attach, contexts.Context())  # a span that is current now is no handler's
        exchange = dispatcher.exchange
        exchange.tracer = OtelTracer(tracer, exchange, lambda: system.incarnation, rate)

    system.trace_with(install)


class OtelTracer(Tracing):
    """Makes the spans; the core calls it for messages that are traced, and for those alone."""

    def __init__(
        self, tracer: api.Tracer, exchange: Exchange, life: Callable[[], int], rate: float = 0.0
    ) -> None:
        """``life``: the incarnation of this node."""
        super().__init__(_variable(), exchange, rate)
        self._tracer = tracer
        self._node = exchange.node_id
        self._life = life

    def is_sampled(self) -> bool | None:
        span = api.get_current_span().get_span_context()
        return span.trace_flags.sampled if span.is_valid else None

    def current(self) -> bytes | None:
        span = api.get_current_span().get_span_context()
        return bytes_of(span) if span.trace_flags.sampled else None

    def send(self, what: str, target: str, sender: str | None) -> Sending | None:
        return None if target.startswith(OWN) else _safely(lambda: self._send(what, target, sender))

    def _send(self, what: str, target: str, sender: str | None) -> Sending | None:
        attributes = self._attributes("send", what, target)
        if sender is not None:
            attributes["cajun.sender"] = sender
        span = self._tracer.start_span(what, kind=KINDS[what], attributes=attributes)
        return Sending(span, self._message_id) if span.is_recording() else None

    def route(self, trace: bytes, target: str, verdict: int) -> Running | None:
        return _safely(lambda: self._route(trace, target, verdict))

    def _route(self, trace: bytes, target: str, verdict: int) -> Running:
        attributes = self._attributes(None, "route", target)
        attributes["cajun.reason"] = REASONS.get(verdict, str(verdict))
        span = self._tracer.start_span("route", context_of(trace), attributes=attributes)
        return Running(span, self._message_id)

    def handle(self, mark: Mark, target: str, kind: str, ask: bool, sender: Any) -> Handling | None:
        return _safely(lambda: self._handle(mark, target, kind, ask, sender))

    def _handle(self, mark: Mark, target: str, kind: str, ask: bool, sender: Any) -> Handling:
        assert mark.trace is not None  # the core calls this for no other
        parent, now = context_of(mark.trace), time.time_ns()
        if target.startswith(OWN):
            return Handling(api.get_current_span(parent))  # it makes no span, and passes this one on
        numbered = {} if mark.node is None else self._numbered(mark)
        attributes = self._attributes(None, "deliver", target) | numbered
        arrived = now - (mark.begun - mark.at)  # the durations are of the node's own clock
        self._tracer.start_span("deliver", parent, attributes=attributes, start_time=arrived).end(now)
        attributes = self._attributes("process", "handle", target) | numbered
        attributes["messaging.destination.template"] = attributes["cajun.actor.type"] = kind
        if sender is not None:
            attributes["cajun.sender"] = sender.id
        span = self._tracer.start_span(
            f"handle {kind}",
            parent,
            SpanKind.SERVER if ask else SpanKind.CONSUMER,
            attributes,
            start_time=now,
        )
        return Handling(span)

    def lost(self, trace: bytes, target: str, error: Exception | str) -> None:
        """A message that ended without a handler and without a word to its sender: a dead letter."""
        _safely(lambda: self._lost(trace, target, error))

    def _lost(self, trace: bytes, target: str, error: Exception | str) -> None:
        attributes = self._attributes(None, "dead-letter", target)
        Running(self._tracer.start_span("dead-letter", context_of(trace), attributes=attributes)).end(error)

    def _numbered(self, mark: Mark) -> dict[str, Any]:
        number = f"{mark.node}/{mark.life}/{mark.stream}/{mark.sequence}"
        return {"messaging.message.id": number, "cajun.sender.node": mark.node}

    def _message_id(self, stream: int, sequence: int) -> str:
        """Of a message that goes from here: the id that ``explain`` knows."""
        return f"{self._node}/{self._life()}/{stream}/{sequence}"

    def _attributes(self, kind: str | None, name: str, target: str) -> dict[str, Any]:
        attributes = {
            "messaging.system": "cajun_fast",
            "messaging.operation.name": name,
            "messaging.destination.name": target,
            "cajun.node": self._node,
        }
        if kind is not None:
            attributes["messaging.operation.type"] = kind
        return attributes


class Running:
    """A span that ends once."""

    def __init__(self, span: api.Span, message_id: Callable[[int, int], str] | None = None) -> None:
        self.span = span
        self._message_id = message_id

    def numbered(self, stream: int, sequence: int) -> None:
        """The message goes over a link, under that number."""
        _safely(lambda: self._numbered(stream, sequence))

    def _numbered(self, stream: int, sequence: int) -> None:
        if self._message_id is not None:
            self.span.set_attribute("messaging.message.id", self._message_id(stream, sequence))

    def end(self, error: BaseException | str | None) -> None:
        _safely(lambda: self._end(error))

    def _end(self, error: BaseException | str | None) -> None:
        if error is not None:
            name = getattr(error, "reason", None) or type(error).__name__
            self.span.set_attribute("error.type", error if isinstance(error, str) else name)
            self.span.set_status(Status(StatusCode.ERROR, str(error)))
            if isinstance(error, BaseException):
                self.span.record_exception(error)
        self.span.end()


class Sending(Running):
    """Of a message that goes; ``context`` is what travels with it."""

    def __init__(self, span: api.Span, message_id: Callable[[int, int], str]) -> None:
        super().__init__(span, message_id)
        self.context = bytes_of(span.get_span_context())

    def end_with(self, future: Any) -> None:
        """It ends as the future has: the answer, or the acknowledgement, or why there is none."""
        if future.cancelled():
            self.end("cancelled")
        else:
            self.end(future.exception())


class Handling(Running):
    """Of a handler: current while that runs."""

    def __init__(self, span: api.Span) -> None:
        super().__init__(span)
        self._token: Any = None
        self.enter()

    def enter(self) -> None:
        """The handler goes on, in this context."""
        self._token = contexts.attach(api.set_span_in_context(self.span))

    def leave(self) -> None:
        """The handler goes on elsewhere."""
        token, self._token = self._token, None
        if token is not None:
            contexts.detach(token)

    def end(self, error: BaseException | str | None) -> None:
        self.leave()
        super().end(error)


def bytes_of(span: SpanContext) -> bytes:
    """What travels: trace id, span id, flags, and the tracestate where there is one that is not too long."""
    state = span.trace_state.to_header().encode() if span.trace_state else b""
    fixed = (
        span.trace_id.to_bytes(16, "big")
        + span.span_id.to_bytes(8, "big")
        + bytes([int(span.trace_flags) & 0xFF])
    )
    return fixed + state if len(state) <= 512 else fixed


def context_of(trace: bytes) -> contexts.Context:
    """The context of whoever sent it."""
    state = TraceState.from_header([trace[25:].decode("ascii", "replace")]) if len(trace) > 25 else None
    span = SpanContext(
        int.from_bytes(trace[:16], "big"),
        int.from_bytes(trace[16:24], "big"),
        True,
        TraceFlags(trace[24]),
        state,
    )
    return api.set_span_in_context(api.NonRecordingSpan(span), contexts.Context())


def _variable() -> contextvars.ContextVar[Any] | None:
    """Where OpenTelemetry keeps its context. It does not say so in its interface; where it is not there, it is asked by
    ``get_current_span`` for each message, which costs more and means the same."""
    found = getattr(getattr(contexts, "_RUNTIME_CONTEXT", None), "_current_context", None)
    return found if isinstance(found, contextvars.ContextVar) else None


def _safely(make: Callable[[], T]) -> T | None:
    try:
        return make()
    except Exception:
        log.exception("a span was lost")
        return None
