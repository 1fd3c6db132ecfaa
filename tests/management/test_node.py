"""``cajun-fast node`` as its users meet it: real processes, signals, and everything that can be typed wrongly."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import cajun_fast as cf
from cajun_fast.management.cli import main

from .conftest import Command, Start, eventually

pytestmark = pytest.mark.processes

StartNode = Callable[..., Command]
ACTORS = """
import cajun_fast as cf

@cf.actor("echo")
class Echo(cf.Actor):
    def receive(self, message, context):
        return [context.node_id, message]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(start_node: StartNode, number: signal.Signals) -> None:
    node = start_node("a")
    event = node.ready()
    assert event["node"] == "a"
    assert event["incarnation"] == 1
    host, _, port = event["address"].rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    node.signal(number)
    status, out, err = node.end()
    assert (status, out) == (0, "")
    assert "Traceback" not in err


def test_a_signal_during_the_start_stops_it_in_order(start_node: StartNode) -> None:
    node = start_node("a", "--log-level", "debug")
    assert node.process.stderr is not None
    node.process.stderr.readline()  # the first log line: the loop runs, and the handler of signals with it
    node.signal(signal.SIGTERM)
    status, _, err = node.end()
    assert status == 0, err
    assert "Traceback" not in err


def test_a_second_signal_stops_it_at_once(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        ACTORS.replace(
            "def receive",
            "async def post_stop(self):\n"
            "        import asyncio, sys\n        print('stopping', flush=True)\n        await asyncio.sleep(3600)\n\n"
            "    def receive",
        )
    )
    node = start_node("a", "--import", "slow", "--set", "actors.stop_timeout=3600")
    node.ready()
    cf.run(create_echo(tmp_path, "a"))
    node.signal(signal.SIGTERM)
    assert node.line() == "stopping\n"
    node.signal(signal.SIGINT)
    status, _, err = node.end()
    assert status == 128 + signal.SIGINT
    assert "second signal" in err


async def create_echo(folder: Path, node: str) -> object:
    """A client that has an echo made on a node, and asks it."""
    builder = cf.ClusterConfig.Builder("client", f"sqlite:///{folder}/cluster.db")
    config = builder.with_messaging_port(0).as_client().build()
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        pid = await system.create_actor_on_node("echo", "echo-1", node)
        return await pid.ask("hello", timeout=10.0)


def test_modules_are_imported_from_the_current_folder(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "my_actors.py").write_text(ACTORS)
    (tmp_path / "more_actors.py").write_text("")
    start_node("a", "--import", "my_actors", "--import", "more_actors").ready()
    assert cf.run(create_echo(tmp_path, "a")) == ["a", "hello"]


def test_killed_and_started_again_it_is_a_new_incarnation(start_node: StartNode) -> None:
    node = start_node("a", "--set", "membership.lease_ttl=1")
    assert node.ready()["incarnation"] == 1
    node.signal(signal.SIGKILL)
    assert node.end()[0] == -signal.SIGKILL
    again = start_node("a", "--set", "membership.lease_ttl=1")
    assert again.ready()["incarnation"] == 2


def test_file_and_environment_say_the_same_as_options(start: Start, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        'system_id = "from-file"\nstore = "sqlite:///cluster.db"\n[messaging]\nport = 70\nhost = "localhost"\n'
    )
    node = start("node", "--config", "node.toml", "--id", "from-option", CAJUN_MESSAGING_PORT="0")
    event = node.ready()
    assert event["node"] == "from-option"
    assert event["address"].startswith("localhost:")


def test_logs_are_json_lines_if_asked_for(start_node: StartNode) -> None:
    node = start_node("a", "--log-json")
    node.ready()
    node.signal(signal.SIGTERM)
    _, _, err = node.end()
    lines = [json.loads(line) for line in err.splitlines()]
    assert any("serves at" in line["message"] and line["node"] == "a" for line in lines)


def test_it_stops_when_its_standard_input_closes(start_node: StartNode) -> None:
    node = start_node("a", "--stop-on-eof")
    node.ready()
    assert node.process.stdin is not None
    node.process.stdin.close()
    assert eventually(lambda: node.process.poll() is not None)
    assert node.process.returncode == 0


def test_a_standard_output_that_nobody_reads_is_no_reason_to_die(start_node: StartNode) -> None:
    node = start_node("a")
    assert node.process.stdout is not None
    assert node.process.stderr is not None
    node.process.stdout.close()
    while "serves at" not in node.process.stderr.readline():
        pass
    node.signal(signal.SIGTERM)
    node.process.stderr.read()
    assert node.process.wait(timeout=10) == 0


# ---- what is typed wrongly: one line, the value, the remedy, status 2


WRONG_WORDS = {
    "no id": (["--store", "sqlite:///c.db"], ["system_id", "CAJUN_SYSTEM_ID"]),
    "no store": (["--id", "a"], ["store", "sqlite:///cluster.db"]),
    "store without a scheme": (["--id", "a", "--store", "c.db"], ["'c.db'", "sqlite:///"]),
    "port too high": (["--id", "a", "--store", "sqlite:///c.db", "--port", "70000"], ["70000", "65535"]),
    "port no number": (["--id", "a", "--store", "sqlite:///c.db", "--port", "http"], ["'http'", "65535"]),
    "id with a space": (["--id", "a b", "--store", "sqlite:///c.db"], ["'a b'", "without spaces"]),
    "every interface": (
        ["--id", "a", "--store", "sqlite:///c.db", "--host", "0.0.0.0"],
        ["0.0.0.0", "advertised_host"],
    ),
    "unknown setting": (
        ["--id", "a", "--store", "sqlite:///c.db", "--set", "membership.lease_tl=1"],
        ["membership_lease_tl", "membership.lease_ttl"],
    ),
    "setting without a value": (["--id", "a", "--set", "roles"], ["'roles'", "NAME=VALUE"]),
    "no such file": (["--id", "a", "--config", "none.toml"], ["none.toml"]),
    "file is no TOML": (["--id", "a", "--config", "broken.py"], ["broken.py", "TOML"]),
    "unknown level": (["--id", "a", "--log-level", "loud"], ["loud", "debug"]),
    "unknown option": (["--prot", "1"], ["--prot", "--port", "--help"]),
}
#: These are found out only while a node starts.
WRONG_WORLD = {
    "unknown scheme": (["--store", "consul://x"], ["consul", "sqlite"]),
    "no such folder": (["--store", "sqlite:////none/c.db"], ["/none", "create"]),
    "no such module": (["--import", "no_such"], ["'no_such'", "PYTHONPATH"]),
    "broken module": (["--import", "broken"], ["'broken'", "SyntaxError", "line 1"]),
    "foreign address": (
        ["--host", "203.0.113.1", "--set", "security.insecure_network=true"],
        ["203.0.113.1", "bind address"],
    ),
}


def slug(case: str) -> str:
    return case.replace(" ", "-")


@pytest.mark.parametrize("case", WRONG_WORDS, ids=slug)
def test_wrong_words_get_one_line_with_value_and_remedy(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, words = WRONG_WORDS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(SystemExit) as ended:
        main(["node", *arguments])
    captured = capfd.readouterr()
    assert_one_line(int(str(ended.value.code)), captured.out, captured.err, words)


@pytest.mark.parametrize("case", WRONG_WORLD, ids=slug)
def test_what_only_the_start_finds_out_gets_one_line_too(start: Start, tmp_path: Path, case: str) -> None:
    arguments, words = WRONG_WORLD[case]
    (tmp_path / "broken.py").write_text("def f(:\n")
    if "--store" not in arguments:
        arguments = ["--store", "sqlite:///cluster.db", *arguments]
    assert_refused(start("node", "--id", "a", "--port", "0", *arguments), words)


def assert_refused(command: Command, words: list[str]) -> None:
    assert_one_line(*command.end(), words)


def assert_one_line(status: int, out: str, err: str, words: list[str]) -> None:
    assert (status, out) == (2, ""), err
    said = [line for line in err.splitlines() if line.startswith("cajun-fast node: ")]
    assert len(said) == 1, err
    assert all(word in said[0] for word in words), said[0]
    assert "Traceback" not in err


def test_a_port_in_use_is_named(start_node: StartNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(start_node("a", "--port", port), [port, "in use", "0 for any free one"])


def test_a_node_id_that_lives_already_is_named(start_node: StartNode) -> None:
    start_node("a").ready()
    assert_refused(start_node("a"), ["'a'"])


@pytest.mark.etcd
def test_a_store_that_nobody_serves_is_named(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # listens, and nobody answers
        url = f"http://127.0.0.1:{port}"
        arguments = ["--id", "a", "--store", url, "--port", "0", "--set", "metadata.timeout=0.5"]
        assert_refused(start("node", *arguments), [f"127.0.0.1:{port}", "check that etcd runs there"])
