"""Certificates for the nodes of a cluster, made by an authority of one's own: files in a folder, and nothing else.

    ca.pem, ca.key           the authority: its key stays where certificates are made
    <node>.pem, <node>.key   of one node
    cluster.key              the secret of authentication

Laws: nothing that exists is written over, but for a node's certificate, which is made anew on demand; keys are
readable by their owner only from the moment that they exist. Elliptic curve P-256: small and fast.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cajun_fast.errors import ConfigError
from cajun_fast.messaging.tls import node_uri

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LOCAL = ("localhost", "127.0.0.1", "::1")
BACKDATED = timedelta(minutes=5)  # clocks differ
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the files lie."""

    path: Path

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.path / "ca.key"

    @property
    def secret(self) -> Path:
        return self.path / "cluster.key"

    def cert(self, node: str) -> Path:
        return self.path / f"{_file_name(node)}.pem"

    def key(self, node: str) -> Path:
        return self.path / f"{_file_name(node)}.key"

    def make(self) -> None:
        """Raises ConfigError where that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the folder {str(self.path)!r} cannot be made: {error.strerror}") from error


def _file_name(node: str) -> str:
    name = re.sub(r"[^\w.-]", "_", node)
    if not node or name in ("ca", "cluster", ".", ".."):
        raise ConfigError(f"a node cannot be called {node!r} here: its files would be taken for others")
    return name


def make_authority(folder: Folder, *, name: str = "cajun-fast", days: float = 3650) -> None:
    """An authority. Raises ConfigError if there is one, or if `cryptography` is not installed."""
    x509, hashes, _ = _cryptography()
    if folder.ca.exists() or folder.ca_key.exists():
        raise ConfigError(f"{str(folder.ca)!r} exists: choose another folder, or take the old authority away")
    folder.make()
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} authority")])
    usage = _usage(x509, key_cert_sign=True, crl_sign=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        _blank(x509, subject, subject, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(folder.ca_key, key)
    _write(folder.ca, _pem(cert), mode=0o644)


def make_node(
    folder: Folder,
    node: str,
    *,
    hosts: Iterable[str] = LOCAL,
    days: float = 90,
    delay: float = 0.0,
    dns_id: bool = False,
) -> None:
    """A node's certificate and key, for both directions, in the place of older ones: key first, each in one step.

    ``delay``: days until it counts.
    ``dns_id``: name the node by a DNS name instead of the URI. Raises ConfigError without an authority.
    """
    x509, hashes, serialization = _cryptography()
    ca, ca_key = _authority(folder, x509, serialization)
    key = _new_key()
    names: list[Any] = [] if dns_id else [x509.UniformResourceIdentifier(node_uri(node))]
    names += [x509.DNSName(node)] if dns_id else []
    names += [_host_name(x509, host) for host in hosts]
    usages = [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node[:64])])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    cert = (
        _blank(x509, subject, ca.subject, key, days, delay)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(x509, digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(folder.key(node), key)
    _write(folder.cert(node), _pem(cert), mode=0o644)


def make_secret(folder: Folder) -> bool:
    """A key for authentication, in front of those that are there. Returns whether it is the first."""
    folder.make()
    old = folder.secret.read_text(encoding="utf-8") if folder.secret.exists() else ""
    _write(folder.secret, secrets.token_hex(KEY_BYTES).encode() + b"\n" + old.encode(), mode=0o600)
    return not old


def _authority(
    folder: Folder, x509: Any, serialization: Any
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    try:
        ca = x509.load_pem_x509_certificate(folder.ca.read_bytes())
        return ca, serialization.load_pem_private_key(folder.ca_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"no authority can be read from {str(folder.ca)!r} and {str(folder.ca_key)!r}: {error}; "
            "make one with `cajun-fast cert ca`"
        ) from error


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
    except ImportError as error:
        raise ConfigError(
            "certificates are made with cryptography: pip install 'cajun-fast[security]'"
        ) from error
    return x509, hashes, serialization


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _blank(
    x509: Any, subject: Any, issuer: Any, key: EllipticCurvePrivateKey, days: float, delay: float = 0.0
) -> Any:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now + timedelta(days=delay), now + timedelta(days=days)) - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(x509: Any, **yes: bool) -> Any:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: yes.get(name, False) for name in names})


def _host_name(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return cert.public_bytes(Encoding.PEM)


def _write_key(path: Path, key: EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """In one step: whoever reads sees the old file or the new one, whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written: {error.strerror}") from error
