"""From URL to store, and what a user reads who mistyped it."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.metadata import StoreOptions, open_store, registry
from cajun_fast.metadata.memory import MemoryMetadataStore
from cajun_fast.metadata.urls import redact


def third_party(url: str, options: StoreOptions) -> MemoryMetadataStore:
    return MemoryMetadataStore("third", options=options)


def brings(monkeypatch: pytest.MonkeyPatch, scheme: str, target: str) -> None:
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [EntryPoint(scheme, target, group)] if group else []
    )


def test_an_unknown_scheme_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"redis.*etcd.*memory.*sqlite.*cajun_fast\.stores"):
        open_store("redis://h:1")


@pytest.mark.parametrize("url", ["cluster.db", "", "://", "/abs/path"])
def test_no_url_at_all(url: str) -> None:
    with pytest.raises(ConfigError, match="not a URL"):
        open_store(url)


def test_a_third_party_plugs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    brings(monkeypatch, "third", f"{__name__}:third_party")
    monkeypatch.setattr(EntryPoint, "load", lambda point: third_party)
    assert open_store("third://x", timeout=1.0).url == "memory://third"


def test_a_plug_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    brings(monkeypatch, "third", "no_such_module:factory")
    with pytest.raises(ConfigError, match="no_such_module"):
        open_store("third://x")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_retries": -1}, "max_retries"),
        ({"nonsense": 1}, "nonsense"),
        ({"cert_file": "a"}, "key_file"),
        ({"user": "a"}, "password"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_store("memory://", **options)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@h:2379",
        "https://user:hun/ter2@h:2379,u:hunter2@i:2379",
        "etcd://u:hunter2@h:2379?password=hunter2&x=1",
        "redis://u:hunter2@h",
    ],
)
def test_secrets_are_not_shown(url: str) -> None:
    assert "ter2" not in redact(url)
    assert "h" in redact(url)


def test_options_do_not_show_the_password() -> None:
    assert "hunter2" not in repr(StoreOptions(user="u", password="hunter2"))
