"""Two lines turn it on, in code, in a file, in the environment; what would leave a node open is refused."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.access import AccessRule
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import ConfigError


def builder() -> ClusterConfig.Builder:
    return ClusterConfig.Builder("a", "memory://x")


def secured(builder: ClusterConfig.Builder) -> ClusterConfig.Builder:
    return builder.with_tls(cert="a.pem", key="a.key", ca="ca.pem").with_authentication(
        key_file="cluster.key"
    )


def test_a_file_says_the_same_as_the_builder(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'id = "a"\nstore = "memory://x"\n[security]\ntls_cert = "a.pem"\ntls_key = "a.key"\ntls_ca = "ca.pem"\n'
        'key_file = "cluster.key"\n[[security.allow]]\npeers = ["web-*"]\nsend = ["order-*"]\n'
    )
    said = secured(builder()).with_access("web-*", send="order-*").build()
    assert ClusterConfig.load(file, {}).security == said.security
    environ = {
        "CAJUN_ID": "a", "CAJUN_STORE": "memory://x", "CAJUN_SECURITY_TLS_CERT": "a.pem",
        "CAJUN_SECURITY_TLS_KEY": "a.key", "CAJUN_SECURITY_TLS_CA": "ca.pem",
        "CAJUN_SECURITY_KEY_ENV": "CAJUN_SECRET_KEYS", "CAJUN_SECRET_KEYS": "never-a-setting",
    }  # fmt: skip
    loaded = ClusterConfig.load(None, environ)
    assert (loaded.security.has_tls, loaded.security.key_env) == (True, "CAJUN_SECRET_KEYS")
    assert "never-a-setting" not in repr(loaded.security)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "fe80::1", "node-1.example"])
@pytest.mark.parametrize("half", ["nothing", "tls", "authentication"])
def test_listening_beyond_this_machine_needs_both_or_so_many_words(host: str, half: str) -> None:
    def exposed() -> ClusterConfig.Builder:
        return builder().with_bind_address(host).with_advertised_address("example.org")

    open_door = exposed()
    if half == "tls":
        open_door.with_tls(cert="c", key="k", ca="a")
    elif half == "authentication":
        open_door.with_authentication(key_env="KEYS")
    with pytest.raises(ConfigError, match="with_insecure_network") as caught:
        open_door.build()
    assert host in str(caught.value)
    assert ("TLS (with_tls" in str(caught.value)) == (half != "tls")
    assert ("authentication (with_auth" in str(caught.value)) == (half != "authentication")
    secured(exposed()).build()
    exposed().with_insecure_network().build()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    builder().with_bind_address(host).build()


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (lambda b: b.with_tls(cert="c", key="k").build(), ("tls_ca",)),
        (lambda b: b.with_tls(ca="c").build(), ("tls_cert", "tls_key")),
        (lambda b: b.with_tls(context="x"), ("tls_context", "SSLContext")),
        (
            lambda b: b.with_tls(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).build(),
            ("tls_client_context",),
        ),
        (lambda b: b.with_authentication(), ("key_file", "key_env")),
        (lambda b: b.with_authentication(key_file="f", key_env="E"), ("key_file", "key_env")),
        (lambda b: b.with_access([]), ("peers",)),
        (lambda b: b.with_setting("security.allow", [{"peer": "a"}]), ("peers", "send")),
        (lambda b: b.with_setting("security.allow", [{"peers": ["a"], "manage": "yes"}]), ("manage", "true")),
        (lambda b: b.with_setting("security.allow", [{"peers": ["a"], "send": [1]}]), ("send", "order-*")),
        (lambda b: b.with_setting("security.allow", "a"), ("security.allow", "[[security.allow]]")),
        (lambda b: b.with_setting("security.tls_minimum", "1.1"), ("tls_minimum", "1.1", "1.2, 1.3")),
    ],
)
def test_a_wrong_argument_names_setting_value_and_remedy(step: Any, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        step(builder())
    for name in names:
        assert name in str(caught.value)


def test_a_key_given_where_a_name_belongs_is_refused_and_not_shown() -> None:
    secret = "5f4dcc3b5aa765d61d8327deb882cf99" * 2
    with pytest.raises(ConfigError) as caught:
        builder().with_authentication(key_env=secret)
    assert secret[:8] not in str(caught.value)
    with pytest.raises(ConfigError):
        ClusterConfig.load(None, {"CAJUN_ID": "a", "CAJUN_STORE": "memory://x", "CAJUN_SECURITY_KEY": secret})


def test_rules_add_up() -> None:
    config = builder().with_access("a", send=["x"]).with_access(["b", "c"], spawn="t", manage=True).build()
    assert config.security.allow == (
        AccessRule(peers=("a",), send=("x",)),
        AccessRule(peers=("b", "c"), spawn=("t",), manage=True),
    )
