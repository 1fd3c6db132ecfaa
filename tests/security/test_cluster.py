"""With TLS and authentication on, everything above goes on as before: a program of users, node processes, a kill."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from tests.messaging.nodes import until
from tests.security.conftest import Office

ROOT = Path(__file__).resolve().parents[1]
CLI = "from cajun_fast.management.cli import main; main()"
POSTS = """
import cajun_fast as cf

@cf.actor("post")
class Post(cf.Actor):
    def receive(self, message, context):
        return context.node_id
"""
pytestmark = pytest.mark.processes


def secured(office: Office, name: str, store: str) -> cf.ClusterConfig.Builder:
    files = office.files(name)
    builder = cf.ClusterConfig.Builder(name, store).with_messaging_port(0)
    builder.with_tls(cert=files.cert, key=files.key, ca=files.ca)
    return builder.with_authentication(key_file=office.secret)


@pytest.mark.parametrize("store", ["memory://secure-quickstart", "sqlite:///{folder}/cluster.db"])
async def test_the_quickstart_with_two_lines_more(office: Office, store: str, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "acceptance" / "quickstart.py")
    assert spec is not None
    assert spec.loader is not None
    program: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.config = lambda name, url: secured(office, name, url).build()
    await asyncio.wait_for(program.main(store.format(folder=tmp_path)), 50)


class Fleet:
    """Node processes, each configured by a file of its own."""

    def __init__(self, office: Office, folder: Path) -> None:
        self.office, self.folder = office, folder
        self.store = f"sqlite:///{folder}/cluster.db"
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        (folder / "posts.py").write_text(POSTS)

    async def start(self, name: str, *words: str, **environ: str) -> asyncio.subprocess.Process:
        files = self.office.files(name)
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'id = "{name}"\nstore = "{self.store}"\nimports = ["posts"]\n'
            "[messaging]\nport = 0\n[membership]\nlease_ttl = 1.5\n"
            f'[security]\ntls_cert = "{files.cert}"\ntls_key = "{files.key}"\ntls_ca = "{files.ca}"\n'
            + ("" if environ else f'key_file = "{self.office.secret}"\n')
        )
        paths = [
            str(self.folder),
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CLI, "node", "--config", str(config), *words,
                stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(paths)},
            )  # fmt: skip
        self.processes[name] = process
        return process

    async def ready(self, name: str) -> None:
        stdout = self.processes[name].stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), 30)
        assert json.loads(line)["event"] == "ready", self.log(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def fleet(office: Office, tmp_path: Path) -> Any:
    fleet = Fleet(office, tmp_path)
    yield fleet
    await fleet.stop()


async def ask_until(pid: cf.Pid, message: Any, seconds: float = 30.0) -> Any:
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await pid.ask(message, timeout=2.0)
        except cf.CajunError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.1)


async def test_node_processes_fail_over_in_private(fleet: Fleet) -> None:
    """One has its keys from a file, one from a variable; one is killed, and its actor starts on the other."""
    await fleet.start("a")
    await fleet.start(
        "b", CAJUN_SECURITY_KEY_ENV="CAJUN_SECRET_KEYS", CAJUN_SECRET_KEYS=fleet.office.secret.read_text()
    )
    await asyncio.gather(fleet.ready("a"), fleet.ready("b"))
    config = secured(fleet.office, "t", fleet.store).as_client().build()
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        post = await system.create_actor_on_node("post", "post-1", "a")
        assert await ask_until(post, "where") == "a"
        fleet.processes["a"].send_signal(signal.SIGKILL)
        assert await ask_until(post, "where") == "b"
        process = fleet.processes["b"]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    secret = fleet.office.secret.read_text().split()[0]
    assert secret not in fleet.log("a") + fleet.log("b")


async def test_a_node_with_papers_of_another_does_not_start(fleet: Fleet) -> None:
    make = fleet.office.files
    fleet.office.files = lambda name: make("other")  # type: ignore[method-assign]
    process = await fleet.start("a")
    assert await asyncio.wait_for(process.wait(), 30) == 2
    assert fleet.log("a").count("\n") == 1
    assert "made for cajun:node/other, this is node 'a'" in fleet.log("a")


async def test_a_node_beyond_this_machine_does_not_start_open(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLI, "node", "--id", "a", "--store", f"sqlite:///{tmp_path}/c.db", "--port", "0",
        "--host", "0.0.0.0", "--advertise", "localhost", stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert b"with_insecure_network" in err
    assert err.count(b"\n") == 1


async def test_health_and_metrics_show_the_certificate_and_who_was_turned_down(office: Office) -> None:
    config = (
        secured(office, "a", "memory://secure-health").with_setting("security.reload_interval", 0.05).build()
    )
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        gauges = system.metrics.snapshot().gauges
        assert 89 * 86_400 < gauges["tls_certificate_expiry_seconds"] < 91 * 86_400
        assert (gauges["refused_tls"], gauges["security_files_in_use"]) == (0.0, 1.0)
        assert system.metrics.get_health_status()["security"] is True
        _, writer = await asyncio.open_connection(system.address.host, system.address.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: system.metrics.snapshot().gauges["refused_tls"] == 1.0)
        writer.close()
        office.folder.cert("a").write_bytes(b"no certificate")
        await until(lambda: system.metrics.get_health_status()["security"] is False)
        assert system.metrics.snapshot().gauges["security_files_in_use"] == 0.0
