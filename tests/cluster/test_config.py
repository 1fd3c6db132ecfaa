"""Settings: checked where they are given, frozen, loaded from files and the environment."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.config import ClusterConfig, MessagingConfig, NodeAddress, settings
from cajun_fast.errors import ConfigError
from cajun_fast.guarantees import DeliveryGuarantee

ROOT = Path(__file__).resolve().parents[2]


def builder() -> ClusterConfig.Builder:
    return ClusterConfig.Builder("node1", "memory://x")


def test_defaults_are_those_of_the_seed() -> None:
    config = builder().build()
    assert config.system_id == "node1"
    assert config.endpoints == ("memory://x",)
    assert config.messaging.port == 8080
    assert config.delivery_guarantee is DeliveryGuarantee.EXACTLY_ONCE
    assert config.metadata.registration_batch_size == 50
    assert config.placement.location_cache_expiry_ms == 5000
    assert (config.messaging.failure_threshold, config.messaging.reset_timeout_ms) == (5, 30_000)
    assert not config.client


def test_every_with_method_reaches_its_setting() -> None:
    config = (
        builder()
        .with_messaging_port(0)
        .with_bind_address("0.0.0.0")
        .with_advertised_address("example.org", 9000)
        .with_insecure_network()
        .with_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .add_node("node2", "host2", 8080)
        .as_client()
        .with_cluster_name("orders")
        .with_lease_ttl(2)
        .with_registration_batch_size(7)
        .with_location_cache_expiry_ms(100)
        .with_circuit_breaker(3, 1000)
        .with_persistence("sqlite:///state.db")
        .with_roles("gpu")
        .with_imports("a.b")
        .with_rehost_timeout(1)
        .with_mailbox(5, "drop_new")
        .with_setting("actors.max_asks_in_flight", 9)
        .build()
    )
    assert config.messaging == MessagingConfig(
        host="0.0.0.0",
        port=0,
        advertised_host="example.org",
        advertised_port=9000,
        failure_threshold=3,
        reset_timeout_ms=1000,
    )
    assert config.known_nodes == {"node2": NodeAddress("host2", 8080)}
    assert config.delivery_guarantee is DeliveryGuarantee.AT_LEAST_ONCE
    assert (config.client, config.cluster_name) == (True, "orders")
    assert config.membership.lease_ttl == 2
    assert config.metadata.registration_batch_size == 7
    assert (config.placement.location_cache_expiry_ms, config.placement.rehost_timeout) == (100, 1)
    assert config.persistence == "sqlite:///state.db"
    assert (config.roles, config.imports) == (("gpu",), ("a.b",))
    assert (config.actors.mailbox_capacity, config.actors.mailbox_policy) == (5, "drop_new")
    assert config.actors.max_asks_in_flight == 9


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (lambda b: b.with_messaging_port(70_000), ("messaging.port", "70000", "65535")),
        (lambda b: b.with_messaging_port(-1), ("messaging.port", "-1")),
        (lambda b: b.with_messaging_port(True), ("messaging.port", "True")),
        (lambda b: b.with_messaging_port("http"), ("messaging.port", "http")),
        (lambda b: b.with_delivery_guarantee("TWICE"), ("delivery_guarantee", "TWICE", "EXACTLY_ONCE")),
        (lambda b: b.add_node("n", "", 1), ("known_nodes",)),
        (lambda b: b.add_node("n", "h", 0), ("known_nodes", "0")),
        (lambda b: b.add_node("a/b", "h", 1), ("known_nodes", "a/b")),
        (lambda b: b.with_cluster_name("a b"), ("cluster_name", "a b")),
        (lambda b: b.with_lease_ttl(0), ("membership.lease_ttl", "0")),
        (lambda b: b.with_lease_ttl(float("nan")), ("membership.lease_ttl", "nan")),
        (lambda b: b.with_registration_batch_size(1000), ("registration_batch_size", "1000", "100")),
        (lambda b: b.with_mailbox(10, "explode"), ("mailbox_policy", "explode", "drop_oldest")),
        (lambda b: b.with_persistence(""), ("persistence",)),
        (
            lambda b: b.with_setting("placement.rehost_timout", 1),
            ("rehost_timout", "placement.rehost_timeout"),
        ),
        (lambda b: ClusterConfig.Builder("", "memory://x"), ("system_id", "''")),
        (lambda b: ClusterConfig.Builder("a@b", "memory://x"), ("system_id", "a@b")),
        (lambda b: ClusterConfig.Builder("a"), ("endpoints", "sqlite:///")),
        (lambda b: ClusterConfig.Builder("a", "cluster.db"), ("endpoints", "cluster.db", "URL")),
    ],
)
def test_a_wrong_argument_is_refused_at_once_naming_setting_value_and_remedy(
    step: Any, names: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        step(builder())
    for name in names:
        assert name in str(caught.value)


def test_the_same_node_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"n2.*stands there already"):
        builder().add_node("n2", "a", 1).add_node("n2", "b", 2)


def test_a_wildcard_bind_address_needs_an_advertised_one() -> None:
    with pytest.raises(ConfigError, match="advertised_host"):
        builder().with_bind_address("0.0.0.0").with_insecure_network().build()
    with pytest.raises(ConfigError, match="advertised_host"):
        builder().with_advertised_address("0.0.0.0").build()


def test_the_product_shares_nothing_with_its_builder() -> None:
    half = builder().add_node("n2", "h2", 1)
    config = half.build()
    later = half.add_node("n3", "h3", 1).with_messaging_port(1).build()
    assert set(config.known_nodes) == {"n2"}
    assert config.messaging.port == 8080
    assert set(later.known_nodes) == {"n2", "n3"}


def test_a_configuration_cannot_be_changed() -> None:
    config = builder().add_node("n2", "h2", 1).build()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.system_id = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.messaging.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.known_nodes["n3"] = NodeAddress("h", 1)  # type: ignore[index]


def test_made_directly_it_is_checked_as_well() -> None:
    nodes = {"n2": ("h", 1)}
    config = ClusterConfig(system_id="a", endpoints="memory://x", known_nodes=nodes)  # type: ignore[arg-type]
    assert config.endpoints == ("memory://x",)
    nodes["n3"] = ("h", 2)
    assert set(config.known_nodes) == {"n2"}
    with pytest.raises(ConfigError, match=r"messaging\.port"):
        MessagingConfig(port=-5)
    with pytest.raises(ConfigError, match="system_id"):
        dataclasses.replace(config, system_id="")


def test_several_endpoints_are_one_url() -> None:
    config = ClusterConfig.Builder("a", "http://e1:2379", "http://e2:2379", "e3:2379").build()
    assert config.store_url == "http://e1:2379,e2:2379,e3:2379"


def test_the_password_of_a_store_is_not_in_its_repr() -> None:
    config = ClusterConfig.Builder("a", "http://user:secret@host:2379").build()
    assert "secret" not in repr(config)


# ---- loading


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        """
        system_id = "from-file"
        store = "memory://file"
        delivery_guarantee = "at_least_once"
        roles = ["gpu", "zone-a"]
        [nodes]
        node2 = "host2:9000"
        [messaging]
        port = 1
        host = "127.0.0.2"
        [membership]
        lease_ttl = 3
        """
    )
    environ = {"CAJUN_MESSAGING_PORT": "2", "CAJUN_CLIENT": "yes", "CAJUN_SYSTEM_ID": "from-env", "HOME": "/"}
    config = ClusterConfig.load(file, environ, system_id="from-code")
    assert config.system_id == "from-code"
    assert config.endpoints == ("memory://file",)
    assert (config.messaging.port, config.messaging.host) == (2, "127.0.0.2")
    assert config.membership.lease_ttl == 3
    assert config.client
    assert config.roles == ("gpu", "zone-a")
    assert config.delivery_guarantee is DeliveryGuarantee.AT_LEAST_ONCE
    assert config.known_nodes == {"node2": NodeAddress("host2", 9000)}


def test_the_environment_alone_is_enough() -> None:
    environ = {"CAJUN_ID": "a", "CAJUN_STORE": "http://e1:1,http://e2:2", "CAJUN_NODES": "b=hb:1, c=hc:2"}
    config = ClusterConfig.load(environ=environ)
    assert config.endpoints == ("http://e1:1", "http://e2:2")
    assert config.known_nodes == {"b": NodeAddress("hb", 1), "c": NodeAddress("hc", 2)}


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "names"),
    [
        ("system_idd = 'a'", {}, {}, ("system_idd", "system_id")),
        ("[messaging]\nprot = 1", {}, {}, ("messaging.prot", "messaging.port")),
        ("", {"CAJUN_MESAGING_PORT": "1"}, {}, ("CAJUN_MESAGING_PORT",)),
        ("", {"CAJUN_MESSAGING_PROT": "1"}, {}, ("CAJUN_MESSAGING_PROT", "messaging.port")),
        ("", {}, {"lease_tll": 1}, ("lease_tll",)),
        ("", {"CAJUN_MESSAGING_PORT": "eighty"}, {}, ("messaging.port", "eighty")),
        ("port = [", {}, {}, ("not valid TOML",)),
        ("", {"CAJUN_CLIENT": "perhaps"}, {}, ("client", "perhaps")),
        ("messaging = 5", {}, {}, ("messaging",)),
    ],
)
def test_what_is_not_known_is_an_error_with_a_suggestion(
    tmp_path: Path, text: str, environ: dict[str, str], overrides: dict[str, Any], names: tuple[str, ...]
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    base = {"CAJUN_ID": "a", "CAJUN_STORE": "memory://x"}
    with pytest.raises(ConfigError) as caught:
        ClusterConfig.load(file, base | environ, **overrides)
    for name in names:
        assert name in str(caught.value)


def test_a_missing_file_id_or_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("nowhere.toml")):
        ClusterConfig.load(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match="CAJUN_SYSTEM_ID"):
        ClusterConfig.load(environ={"CAJUN_STORE": "memory://x"})
    with pytest.raises(ConfigError, match="CAJUN_STORE"):
        ClusterConfig.load(environ={"CAJUN_ID": "a"})


def test_the_documentation_names_every_setting_with_its_advice() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for name, each in settings().items():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert any(each.metadata["advice"] in row for row in rows), f"docs/configuration.md: {name}"
