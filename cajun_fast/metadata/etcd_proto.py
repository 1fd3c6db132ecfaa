"""etcd's messages, out of the definitions in the package ``etcd3``, without importing that package.

Laws: ``import etcd3`` fails beside protobuf 4 and newer, and its definitions in the default pool would clash
with those of any other etcd library in the process. So its three files are read as text, the serialized
descriptors in them are added to a pool of our own, and the classes are made from that. This is the only file
that knows of ``etcd3``.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from cajun_fast.errors import ConfigError

_REMEDY = "pip install 'cajun-fast[etcd]' (it brings etcd3==0.12.0, grpcio and protobuf)"
_FILES = ("kv", "auth", "rpc")  # in the order of their imports


class Messages:
    """Message classes by name: ``messages().PutRequest``."""

    def __init__(self, classes: dict[str, Any]) -> None:
        self.__dict__.update(classes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"etcd's definitions have no message {name!r}")


@cache
def messages() -> Messages:
    """Raises ConfigError if what is needed is not installed."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as exc:
        raise ConfigError(
            f"etcd needs the package protobuf, which cannot be imported ({exc}): {_REMEDY}"
        ) from exc
    pool = descriptor_pool.DescriptorPool()
    classes: dict[str, Any] = {}
    for name in _FILES:
        file = descriptor_pb2.FileDescriptorProto.FromString(_serialized(_folder() / f"{name}_pb2.py"))
        pool.Add(file)
        for kind in file.message_type:
            descriptor = pool.FindMessageTypeByName(f"{file.package}.{kind.name}")
            classes[kind.name] = message_factory.GetMessageClass(descriptor)
    return Messages(classes)


def _folder() -> Path:
    spec = importlib.util.find_spec("etcd3")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"etcd needs the package etcd3, which is not installed: {_REMEDY}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "etcdrpc"
    if not all((folder / f"{name}_pb2.py").is_file() for name in _FILES):
        raise ConfigError(
            f"the module etcd3 in {str(folder.parent)!r} is not that of the package etcd3 0.12.0 (others use "
            f"the name): pip uninstall the other one, then {_REMEDY}"
        )
    return folder


def _serialized(path: Path) -> bytes:
    """The ``serialized_pb=_b('…')`` of a generated file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb" and isinstance(node.value, ast.Call):
            (text,) = node.value.args
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                return text.value.encode("latin-1")
    raise ConfigError(f"{str(path)!r} holds no protocol definition: {_REMEDY}")
