"""Where a node's spans go, by a word: what ``cajun-fast node --trace …`` and ``observability.trace`` mean.

    otlp             a collector, Jaeger, Tempo …: OTEL_EXPORTER_OTLP_ENDPOINT, … (``pip install 'cajun-fast[otlp]'``)
    file:PATH        a line of JSON for each span, written when it ends: nothing of it is lost with the process
    console          the same, on standard error
    any other name   an installed exporter: entry point ``opentelemetry_traces_exporter``

Laws: what OpenTelemetry's own variables say holds: exporter, sampler, limits, resource, batches (``OTEL_…``). A
collector that is away loses spans and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib.metadata import entry_points
from typing import TextIO

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)

from cajun_fast.errors import ConfigError

GROUP = "opentelemetry_traces_exporter"
#: What says how OTLP is spoken, the first of them that is set.
PROTOCOL = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
OTLP_REMEDY = "pip install 'cajun-fast[otlp]' for otlp"
REMEDY = {"otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc for grpc"}


def provider_for(where: str, node: str) -> TracerProvider:
    """A provider of spans of ``node`` that go ``where``. Raises ConfigError for what cannot be opened or is missing."""
    resource = Resource.create({"service.instance.id": node})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "cajun-fast"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    scheme, _, path = where.partition(":")
    if scheme == "file":
        provider.add_span_processor(SimpleSpanProcessor(Lines(_opened(where, path))))
    elif where == "console":
        provider.add_span_processor(SimpleSpanProcessor(Lines(sys.stderr)))
    else:
        provider.add_span_processor(BatchSpanProcessor(_installed(where)))
    return provider


class Lines(ConsoleSpanExporter):
    """A line of JSON for each span."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out=out, formatter=line_of)

    def shutdown(self) -> None:
        if self.out is not sys.stderr:
            self.out.close()


def line_of(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json()), separators=(",", ":")) + "\n"


def shut_down(provider: TracerProvider, patience: float) -> bool:
    """Send what is left. False: the exporter has not come to an end within ``patience`` seconds; it blocks nobody."""
    ending = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
    ending.start()
    ending.join(patience)
    return not ending.is_alive()


def _opened(where: str, path: str) -> TextIO:
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"setting observability.trace={where!r}: {error}: name a file that can be written, e.g. file:spans.jsonl"
        ) from error


def _installed(where: str) -> SpanExporter:
    names = [where]
    if where == "otlp":
        wanted = next((os.environ[name] for name in PROTOCOL if os.environ.get(name)), None)
        names = [OTLP[wanted]] if wanted in OTLP else list(OTLP.values())
    for name in names:
        for each in entry_points(group=GROUP, name=name):
            try:
                exporter: SpanExporter = each.load()()
            except Exception as error:  # packages that are missing, variables that cannot be read
                raise ConfigError(
                    f"setting observability.trace={where!r}: exporter {name} cannot be made: "
                    f"{type(error).__name__}: {error}; look at the OTEL_… variables"
                ) from error
            return exporter
    raise ConfigError(
        f"setting observability.trace={where!r}: no exporter of that name is installed ({', '.join(names)}): "
        f"{REMEDY.get(names[0], OTLP_REMEDY)}, or give file:PATH or console"
    )
