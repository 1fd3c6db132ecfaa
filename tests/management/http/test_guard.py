"""Who may look, who may steer: tokens, host names, other sites' pages, and settings that would leave a door open."""

from __future__ import annotations

from pathlib import Path

import pytest

import cajun_fast as cf
from cajun_fast.config import HttpConfig
from cajun_fast.management.http import HttpSettings
from tests.cluster.conftest import Cluster
from tests.management.http.conftest import Client
from tests.management.http.test_looking import is_problem

TOKEN = "a-token-that-is-long-enough"


async def test_without_the_token_nothing_is_shown(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a, token=TOKEN)
    for path in ("/api/v1/nodes", "/api/v1/overview", "/api/v1/events", "/metrics", "/api/v1/jobs"):
        assert is_problem(await http.get(path), 401, "Authorization: Bearer"), path
        wrong = await http.get(path, headers={"Authorization": f"Bearer {TOKEN}x"})
        assert wrong.headers["www-authenticate"] == "Bearer"
    right = await http.get("/api/v1/nodes", headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == 200


async def test_it_is_read_only_unless_told_otherwise(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    await cluster.leader()
    assert is_problem(await client(a).post("/api/v1/leader/elect"), 403, "read-only")
    elected = await client(a, writable=True).post("/api/v1/leader/elect")
    assert elected.json()["previous"] == "a"


async def test_another_sites_page_may_not_steer(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a, writable=True)
    answer = await http.post("/api/v1/leader/elect", headers={"Sec-Fetch-Site": "cross-site"})
    assert is_problem(answer, 403, "another site")


async def test_a_name_that_was_pointed_at_this_machine_is_refused(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a, names=("localhost", "[::1]"))
    assert (await http.get("/api/v1/nodes")).status_code == 200
    assert (await http.get("/api/v1/nodes", headers={"Host": "LOCALHOST:9"})).status_code == 200
    assert (await http.get("/api/v1/nodes", headers={"Host": "[::1]:9"})).status_code == 200
    for host in ("evil.example", "evil.example:8090", "localhost.evil.example"):
        assert is_problem(await http.get("/api/v1/nodes", headers={"Host": host}), 421, "http.names")


async def test_a_body_that_is_too_large_is_not_read(cluster: Cluster, client: Client) -> None:
    (a,) = await cluster.start("a")
    http = client(a, writable=True)
    answer = await http.post("/api/v1/actors/x/migrate", content=b"x" * 100_000)
    assert answer.status_code in (400, 413, 422, 500)


def test_what_would_leave_a_door_open_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(cf.ConfigError, match=r"nobody is asked who he is; set http\.token_file"):
        HttpSettings.of(HttpConfig(listen="0.0.0.0:8090"))
    (tmp_path / "token").write_text(TOKEN + "\n")
    settings = HttpSettings.of(HttpConfig(listen="0.0.0.0:8090", token_file=str(tmp_path / "token")))
    assert settings.token == TOKEN
    assert TOKEN not in repr(settings)
    with pytest.raises(cf.ConfigError, match="16 or more") as short:
        HttpSettings.of(HttpConfig(token_env="T"), {"T": "secret"})
    assert "secret" not in str(short.value)
    with pytest.raises(cf.ConfigError, match="both set"):
        HttpSettings.of(HttpConfig(token_env="T", token_file="f"), {})
    with pytest.raises(cf.ConfigError, match="no such variable"):
        HttpSettings.of(HttpConfig(token_env="T"), {})
    with pytest.raises(cf.ConfigError, match="cannot be read"):
        HttpSettings.of(HttpConfig(token_file=str(tmp_path / "missing")))
    with pytest.raises(cf.ConfigError, match="go together"):
        HttpSettings.of(HttpConfig(certificate="c"))
    with pytest.raises(cf.ConfigError, match="need HTTPS"):
        HttpSettings.of(HttpConfig(client_ca="c"))


@pytest.mark.parametrize("listen", ["8090", "localhost", "localhost:x", "localhost:70000", ":8090", "h:"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(cf.ConfigError, match=r"http\.listen"):
        HttpSettings.of(HttpConfig(listen=listen))


def test_addresses_may_be_of_both_kinds() -> None:
    assert HttpSettings.of(HttpConfig(listen="[::1]:0")).host == "::1"
    assert HttpSettings.of(HttpConfig(listen="localhost:80")).port == 80
