"""Every paper that must be turned down is, on the side that is dialled and on the side that dials; nothing is believed
of who shows it. Outside parties: openssl s_client, and a client written from the document."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.management.certificates import make_node
from cajun_fast.messaging.door import Cause
from cajun_fast.messaging.security import Security, Tls
from cajun_fast.messaging.tls import TlsFiles
from tests.messaging.nodes import until
from tests.security.outsider import Outsider

DAY = 1.0


@pytest.fixture
async def b(office: Any, make_node_with: Any) -> Any:
    return await make_node_with("b", office.security("b", auth=False))


def context(
    office: Any, node: str | None, *, trusts: Any = None, **options: Any
) -> tuple[ssl.SSLContext, bytes]:
    """For an outsider that shows a certificate of ``office`` for ``node``; and the certificate."""
    made = ssl.create_default_context(cafile=str((trusts or office).folder.ca))
    if node is None:
        return made, b""
    files = office.files(node, **options)
    made.load_cert_chain(files.cert, files.key)
    with open(files.cert) as stream:
        return made, ssl.PEM_cert_to_DER_cert(stream.read())


async def attempt(talk: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(talk), 20)


def knock(address: Any, made: ssl.SSLContext, node: str = "x") -> tuple[int, str] | str:
    """Shake hands as ``node``; how it ended: the refusal, "" for a welcome, or what TLS said."""
    try:
        with Outsider(address, node, "b", context=made) as client:
            client.shake_hands()
            return client.refusal or ""
    except (ssl.SSLError, ConnectionError) as error:
        return str(error)


# ---- dialled by strangers ------------------------------------------------------------------------------------------


async def test_who_has_papers_is_welcome(office: Any, b: Any) -> None:
    made, _ = context(office, "x")
    assert await attempt(lambda: knock(b.address, made)) == ""


@pytest.mark.parametrize("who", ["no certificate", "another authority", "expired", "not yet valid"])
async def test_who_has_none_that_count_is_not(
    office: Any, b: Any, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    if who == "no certificate":
        made, _ = context(office, None)
    elif who == "another authority":
        made, _ = context(office.other(), "x", trusts=office)
    else:
        made, _ = context(
            office, "x", days=-DAY if who == "expired" else 2 * DAY, delay=0 if who == "expired" else DAY
        )
    with caplog.at_level(logging.WARNING):
        ended = await attempt(lambda: knock(b.address, made))
        await until(lambda: b.messaging.door.turned_down[Cause.TLS] == 1)
    assert ended
    assert "127.0.0.1:" in caplog.text
    why = {
        "no certificate": "peer did not return a certificate",
        "another authority": "unable to get local issuer certificate",
        "expired": "certificate has expired",
        "not yet valid": "certificate is not yet valid",
    }
    assert why[who] in caplog.text
    assert b.messaging.nodes == []


@pytest.mark.parametrize("claims", ["b", "c", "xx", "X"])
async def test_a_certificate_is_good_for_its_own_node_only(office: Any, b: Any, claims: str) -> None:
    made, _ = context(office, "x")
    refusal = await attempt(lambda: knock(b.address, made, claims))
    assert refusal[0] == 3
    assert "cajun:node/x" in refusal[1]
    assert b.messaging.nodes == []


async def test_a_host_name_in_a_certificate_is_no_node_id_where_one_is_named(office: Any, b: Any) -> None:
    made, _ = context(office, "x", hosts=["localhost", "c"])
    assert (await attempt(lambda: knock(b.address, made, "c")))[0] == 3
    named_by_dns, _ = context(office, "c", dns_id=True)
    assert await attempt(lambda: knock(b.address, named_by_dns, "c")) == ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_versions_are_not_spoken(office: Any, b: Any, version: ssl.TLSVersion) -> None:
    made, _ = context(office, "x")
    made.set_ciphers("DEFAULT@SECLEVEL=0")
    made.minimum_version = made.maximum_version = version
    assert "alert" in (await attempt(lambda: knock(b.address, made))).lower()
    await until(lambda: b.messaging.door.turned_down[Cause.TLS] == 1)


async def test_version_1_2_is_spoken_unless_it_is_turned_off(
    office: Any, b: Any, make_node_with: Any
) -> None:
    made, _ = context(office, "x")
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await attempt(lambda: knock(b.address, made)) == ""
    strict = await make_node_with("s", Security(tls=office.tls("s", minimum="1.3")))
    assert "alert" in (await attempt(lambda: knock(strict.address, made))).lower()


async def test_plain_to_tls_and_tls_to_plain_are_told_what_is_wrong(
    office: Any, b: Any, make_node_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plain = await make_node_with("p", None)
    with caplog.at_level(logging.WARNING):
        plain.knows(b)
        plain.messaging.link("b")
        await until(lambda: "TLS is spoken here, the other side speaks without" in caplog.text)
        b.knows(plain)
        b.messaging.link("p")
        await until(lambda: "the other side speaks TLS, this one does not" in caplog.text)
    assert not b.link(plain).is_up
    assert not plain.link(b).is_up


async def test_a_browser_is_turned_away(b: Any) -> None:
    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", b.address.port), timeout=5) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            return browser.recv(100)

    assert (await attempt(talk))[:1] in (b"", b"\x15")
    await until(lambda: b.messaging.door.turned_down[Cause.TLS] == 1)


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2", "-tls1_1"])
async def test_openssl_agrees(office: Any, b: Any, version: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    files = office.files("x")
    command = [
        "openssl", "s_client", version, "-connect", f"127.0.0.1:{b.address.port}", "-CAfile", files.ca,
        "-cert", files.cert, "-key", files.key, "-verify_return_error", "-verify_ip", "127.0.0.1", "-no_ign_eof",
    ]  # fmt: skip
    if version == "-tls1_1":
        command += ["-cipher", "DEFAULT@SECLEVEL=0"]
    done = await attempt(
        lambda: subprocess.run(command, input="", capture_output=True, text=True, timeout=15)
    )
    spoken = "Verification: OK" in done.stdout and "Cipher is (NONE)" not in done.stdout
    assert spoken == (version != "-tls1_1"), done.stdout + done.stderr
    if spoken:
        assert "AES" in done.stdout or "CHACHA20" in done.stdout
        assert "Peer signing digest" in done.stdout


# ---- dialling impostors --------------------------------------------------------------------------------------------


@contextmanager
def impostor(made: ssl.SSLContext | None) -> Iterator[Any]:
    """A server with these papers, or without TLS, that keeps what it hears in plain: ``port``, ``heard``."""

    class Server:
        heard = b""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Server.port = listener.getsockname()[1]  # type: ignore[attr-defined]
        listener.settimeout(0.05)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    caller, _ = listener.accept()
                    caller.settimeout(1)
                    with caller if made is None else made.wrap_socket(caller, server_side=True) as stream:
                        Server.heard += stream.recv(4096)
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Server
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("who", ["another authority", "expired", "another node", "another host", "no TLS"])
async def test_who_dials_tells_an_impostor_nothing(office: Any, make_node_with: Any, who: str) -> None:
    a = await make_node_with("a", office.security("a", auth=False), handshake_timeout=1.0)
    made: ssl.SSLContext | None = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if who == "no TLS":
        made = None
    else:
        issuer = office.other() if who == "another authority" else office
        files = issuer.files(
            "c" if who == "another node" else "b",
            days=-DAY if who == "expired" else DAY,
            hosts=["elsewhere.example"] if who == "another host" else ["127.0.0.1"],
        )
        made.load_cert_chain(files.cert, files.key)
    with impostor(made) as server:
        a.messaging.add_node("b", 1, [a.address._replace(port=server.port)])
        a.messaging.link("b")
        cause = Cause.REFUSED if who == "another node" else Cause.SLOW if who == "no TLS" else Cause.TLS
        await until(lambda: a.messaging.door.turned_down[cause] or (who == "no TLS" and server.heard))
        assert not a.messaging.link("b").is_up
        await a.messaging.stop()
    if who == "another node":  # a REFUSE, and nothing before it
        assert server.heard[:3] in (b"", b"\xcf\x01\x02")
    else:
        assert b"\xcf" not in server.heard[:1], "something was said in plain"
        assert b"cajun" not in server.heard


async def test_a_host_need_not_be_named_where_that_is_turned_off(office: Any, make_node_with: Any) -> None:
    files = office.files("b", hosts=["elsewhere.example"])
    b = await make_node_with("b", Security(tls=Tls(files)))
    strict = await make_node_with("a", office.security("a", auth=False))
    strict.knows(b)
    strict.messaging.link("b")
    await until(lambda: strict.messaging.door.turned_down[Cause.TLS])
    lenient = await make_node_with("c", Security(tls=office.tls("c", check_host=False)))
    lenient.knows(b)
    await b.record("x")
    assert await lenient.pid("x", b).ask(1) == 1


# ---- the channel that proofs are bound to --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_proof_holds_on_its_own_channel_only(
    office: Any, make_node_with: Any, version: ssl.TLSVersion
) -> None:
    """Somebody with papers of b and without the key, between a client and b: the proofs pass through, and fail."""
    b = await make_node_with("b", office.security("b"))
    key = office.secret.read_text().split()[0]
    made, der = context(office, "x")
    made.maximum_version = version

    def straight() -> Any:
        with Outsider(b.address, "x", "b", key=key, context=made, own_der=der) as client:
            client.shake_hands()
            return client.refusal

    def through_the_middle() -> Any:
        with Outsider(b.address, "x", "b", key=key, context=made, own_der=der) as client:
            other = Outsider(b.address, "x", "b", key=key, context=made, own_der=der)
            channel = other.channel  # what a client sees who talks to the one in the middle instead of to b
            other.close()
            type(client).channel = property(lambda self: channel)  # type: ignore[assignment]
            try:
                client.shake_hands()
            finally:
                type(client).channel = honest  # type: ignore[assignment]
            return client.refusal

    honest = Outsider.channel
    assert await attempt(straight) is None
    refusal = await attempt(through_the_middle)
    assert refusal is not None
    assert refusal[0] == 8


# ---- a node's own papers -------------------------------------------------------------------------------------------


def broken(office: Any, how: str) -> TlsFiles:
    good = office.files("b")
    if how == "expired":
        make_node(office.folder, "b", days=-DAY)
    elif how == "of another node":
        return TlsFiles(*(name.replace("b.", "c.") for name in (office.files("c").cert, good.key)), good.ca)
    elif how == "with another's key":
        return TlsFiles(good.cert, office.files("c").key, good.ca)
    elif how == "of another authority":
        return TlsFiles(good.cert, good.key, str(office.other().folder.ca))
    elif how == "missing":
        return TlsFiles(good.cert + "x", good.key, good.ca)
    elif how == "no PEM":
        office.folder.cert("b").write_bytes(b"nonsense")
    elif how == "no authority":
        return TlsFiles(good.cert, good.key, good.key)
    return good


@pytest.mark.parametrize(
    "how",
    [
        "expired",
        "of another node",
        "with another's key",
        "of another authority",
        "missing",
        "no PEM",
        "no authority",
    ],
)
async def test_papers_that_others_would_turn_down_are_found_at_the_start(
    office: Any, make_node_with: Any, how: str
) -> None:
    files = broken(office, how)
    with pytest.raises(ConfigError) as caught:
        await make_node_with("b", Security(tls=Tls(files)))
    assert str(office.path) in str(caught.value)


async def test_when_a_certificate_ends_can_be_seen(office: Any, make_node_with: Any, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        b = await make_node_with("b", Security(tls=Tls(office.files("b", days=3))))
        await until(lambda: "certificate ends in 3.0 days" in caplog.text)
    status = b.messaging.security.status()
    assert status.certificate_seconds == pytest.approx(3 * 86_400, abs=60)
    assert (status.tls, status.authentication, status.fault) == (True, False, "")
