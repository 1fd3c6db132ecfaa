"""Errors on the wire: how a far side's failure reaches the one who asked.

Laws: the package's own errors keep their type and fields; anything else becomes a RemoteActorError of text. Nothing is
ever instantiated by a name that came over the wire, except from the closed table below.
"""

from __future__ import annotations

import traceback
from typing import Any

from cajun_fast import errors
from cajun_fast.errors import CajunError, RemoteActorError

TRACEBACK_MOST = 8192
TEXT_MOST = 4096

_OWN: dict[str, type[CajunError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, CajunError)
}


def encode_error(error: BaseException) -> dict[str, Any]:
    """A plain form of ``error`` that any node can read."""
    name = type(error).__name__
    if isinstance(error, CajunError) and _OWN.get(name) is type(error):
        fields = {key: value for key, value in vars(error).items() if _is_plain(value)}
        return {"error": name, "text": str(error)[:TEXT_MOST], "fields": fields}
    trace = "".join(traceback.format_exception(error))
    return {
        "error": "RemoteActorError",
        "text": "",
        "fields": {
            "type_name": name,
            "text": str(error)[:TEXT_MOST],
            "traceback": trace[-TRACEBACK_MOST:],
        },
    }


def decode_error(plain: Any, node: str) -> CajunError:
    """The error that ``plain`` tells of; an unreadable one is told as such."""
    match plain:
        case {"error": "RemoteActorError", "fields": {"type_name": str(kind), "text": str(text), **rest}}:
            return RemoteActorError(
                str(rest.get("actor_id", "")),
                kind,
                text,
                str(rest.get("traceback", "")),
                str(rest.get("node") or node),
            )
        case {"error": str(name), "text": str(text), "fields": dict(fields)} if name in _OWN:
            kind_of = _OWN[name]
            error = kind_of.__new__(kind_of)
            Exception.__init__(error, text)
            for key, value in fields.items():
                if isinstance(key, str) and key.isidentifier() and _is_plain(value):
                    error.__dict__[key] = value
            return error
    return CajunError(f"node {node!r} sent an error that cannot be read: {plain!r:.200}")


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
