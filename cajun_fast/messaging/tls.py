"""Certificates: contexts made of files, proven before they are used, read again when they change.

Laws: a node shows its certificate to itself before anybody else sees it (a handshake in memory): what is expired,
signed by another authority or made for another node is told at the start, with the file's name, and never replaces
what works. A certificate says who its node is by a URI, `cajun:node/<id>`; where it has none, by its DNS names. The
same context checks both directions. The calendar is read here and nowhere else.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cajun_fast.errors import ConfigError, HandshakeError

NODE_URI = "cajun:node/"
# With forward secrecy and authenticated encryption; TLS 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ROUNDS_MOST = 10  # of a handshake in memory; four are needed

Certificate = Mapping[str, Any]  # as ssl.SSLSocket.getpeercert() gives it


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a node's papers lie, as PEM: its chain, its key, and whom it trusts."""

    cert: str
    key: str
    ca: str

    def read(self) -> bytes:
        """All that they hold now. Raises ConfigError for one that cannot be read."""
        held = b""
        for name in (self.cert, self.key, self.ca):
            try:
                data = Path(name).read_bytes()
            except OSError as error:
                raise ConfigError(f"the TLS file {name!r} cannot be read: {error.strerror}") from error
            held += len(data).to_bytes(8, "big") + data
        return held


@dataclass(frozen=True, slots=True)
class Papers:
    """A node's contexts for both directions, as they were at one time, and what they show (DER). ``expires``: seconds
    since the epoch."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    shown_by_server: bytes
    shown_by_client: bytes
    expires: float | None


def papers_of(
    files: TlsFiles, node_id: str, *, minimum: str = "1.2", mutual: bool = True, check_host: bool = True
) -> Papers:
    """The contexts of a node, proven. Raises ConfigError naming the file and the remedy."""
    server = _context(ssl.PROTOCOL_TLS_SERVER, files, minimum)
    client = _context(ssl.PROTOCOL_TLS_CLIENT, files, minimum)
    server.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    server.num_tickets = 0  # nobody resumes: each connection proves everything anew
    client.check_hostname = check_host
    return prove_to_self(server, client, node_id, f"the certificate {files.cert!r}")


def papers_from(
    server: ssl.SSLContext, client: ssl.SSLContext, node_id: str, *, mutual: bool = True
) -> Papers:
    """The same of contexts that were made elsewhere. Raises ConfigError for what would be no protection."""
    for name, context in (("context", server), ("client_context", client)):
        # MINIMUM_SUPPORTED is a number far below every version: it means "whatever the library can".
        if context.minimum_version < ssl.TLSVersion.TLSv1_2:
            raise ConfigError(f"{name} speaks versions before TLS 1.2: set minimum_version")
    if client.verify_mode is not ssl.CERT_REQUIRED:
        raise ConfigError("client_context does not verify servers: set its verify_mode to CERT_REQUIRED")
    if mutual and server.verify_mode is not ssl.CERT_REQUIRED:
        raise ConfigError("context asks diallers for no certificate: set verify_mode to CERT_REQUIRED")
    return prove_to_self(server, client, node_id, "the certificate in context")


def _context(side: int, files: TlsFiles, minimum: str) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    try:
        context.load_cert_chain(files.cert, files.key, password=lambda: _encrypted(files.key))
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"the certificate {files.cert!r} and the key {files.key!r} cannot be used: {reason_of(error)}; both must "
            "be PEM, and the key that of the file's first certificate"
        ) from error
    try:
        context.load_verify_locations(files.ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"the authorities in {files.ca!r} cannot be used: {reason_of(error)}") from error
    return context


def _encrypted(key: str) -> str:
    raise ConfigError(f"the key {key!r} is encrypted: store it decrypted, readable by this user only")


# ---- a handshake in memory -------------------------------------------------------------------------------------


def prove_to_self(server: ssl.SSLContext, client: ssl.SSLContext, node_id: str, what: str) -> Papers:
    """Both roles of a handshake, host names aside, and whose name was shown.

    Raises ConfigError for papers that another node with the same authorities would turn down.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    acceptor = server.wrap_bio(there, back, server_side=True)
    checks_host, client.check_hostname = client.check_hostname, False
    try:
        dialler = client.wrap_bio(back, there)
    finally:
        client.check_hostname = checks_host
    try:
        for _ in range(ROUNDS_MOST):
            if all([_step(dialler), _step(acceptor)]):
                break
    except ssl.SSLError as error:
        raise ConfigError(
            f"{what} does not hold before its own node: {reason_of(error)}; it must be valid now, be signed by the "
            "authority that the nodes trust, and be good for servers and for clients"
        ) from error
    own = dialler.getpeercert() or {}
    if not names_node(own, node_id):
        raise ConfigError(
            f"{what} is made for {', '.join(node_ids(own)) or 'no node'}, this is node {node_id!r}: have one made "
            f"with the URI {node_uri(node_id)!r} as subjectAltName (cajun-fast cert node {node_id})"
        )
    as_server, as_client = (side.getpeercert(binary_form=True) or b"" for side in (dialler, acceptor))
    return Papers(server, client, as_server, as_client, expires_at(own))


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


# ---- what stands in a certificate ------------------------------------------------------------------------------


def node_uri(node_id: str) -> str:
    """How a certificate names a node."""
    return NODE_URI + quote(node_id, safe="")


def _names(certificate: Certificate, kind: str) -> Iterator[str]:
    return (value for each, value in certificate.get("subjectAltName", ()) if each == kind)


def node_ids(certificate: Certificate) -> list[str]:
    """Whose certificate it is, as written in it. A host's name is a node's only where no node is named."""
    uris = [uri for uri in _names(certificate, "URI") if uri.startswith(NODE_URI)]
    return uris or list(_names(certificate, "DNS"))


def names_node(certificate: Certificate, node_id: str) -> bool:
    """Whether it is that node's certificate. A wildcard is nobody's name."""
    named = node_ids(certificate)
    return node_uri(node_id) in named or (node_id in named and not node_id.startswith(NODE_URI))


def expires_at(certificate: Certificate) -> float | None:
    """Seconds since the epoch."""
    end = certificate.get("notAfter")
    return None if end is None else float(ssl.cert_time_to_seconds(end))


def seconds_left(expires: float | None) -> float | None:
    """Until a certificate ends, below zero after it."""
    return None if expires is None else expires - time.time()


def channel_of(tls: ssl.SSLObject, papers: Papers) -> bytes:
    """What is the same at both ends of one TLS connection, and nowhere else: 32 bytes.

    The Finished message of the client (`tls-unique`) is a MAC over the whole handshake under a key of this connection
    alone; both certificates are added, so that version 1.2 without extended master secrets is bound as well. RFC 9266's
    `tls-exporter` would be the standard one; Python's ssl does not hand it out.
    Raises HandshakeError where the library tells nothing.
    """
    unique = tls.get_channel_binding("tls-unique")
    if not unique:
        raise HandshakeError(
            "the TLS library gives no channel binding: authentication over TLS is not possible"
        )
    theirs = tls.getpeercert(binary_form=True) or b""
    as_server = papers.shown_by_server if tls.server_side else theirs
    as_client = theirs if tls.server_side else papers.shown_by_client
    said = hashlib.sha256(b"cajun-fast channel 1\0")
    for part in ((tls.version() or "").encode(), unique, as_server, as_client):
        said.update(len(part).to_bytes(4, "little") + part)
    return said.digest()


def reason_of(error: OSError) -> str:
    """An error of ssl in words, without its line in a C file."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)
