"""The address of the page: what others type, and the certificate that makes it HTTPS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vitlr.errors import ConfigError
from vitlr.storage.cache_root import cache_root
from vitlr.storage.files import make_directory, write_atomically

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

__all__ = ["check_certificate", "is_loopback", "own_certificate", "reachable"]

_DAYS, _LEFT = 397, 30  # a certificate is valid (browsers accept no more), and made anew this many before


def is_loopback(host: str) -> bool:
    """True for an address that this machine alone can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str) -> str:
    """The name or address to print for one that is listened on: that of this machine in its network for 0.0.0.0."""
    if host not in ("0.0.0.0", "::", ""):
        return host
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((elsewhere, 9))  # addresses of examples in documents; nothing is sent
        return str(probe.getsockname()[0])
    return socket.gethostname()


def check_certificate(certificate: Path, key: Path) -> None:
    """ConfigError unless these are a certificate and its key, without a password."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except FileNotFoundError as error:
        missing = key if certificate.is_file() else certificate
        raise ConfigError(f"{missing} does not exist; give --certificate and --key as PEM files") from error
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{certificate} and {key} are not a certificate and its key in PEM format without a password ({reason});"
            " give others"
        ) from error


def own_certificate(names: Sequence[str]) -> tuple[Path, Path]:
    """Files of a certificate made here for these names and addresses, and of its key; kept in the cache.

    Browsers warn once, as nobody vouches for it; the same one is used again while it is valid, so that they need not
    be asked again.

    Raises:
        ConfigError: a name that no host has. RunError: it cannot be written.
    """
    folder = cache_root() / "certificate"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    wanted = sorted({_encoded(name) for name in names})
    if not _still_good(certificate, key, wanted):
        made, secret = _new_certificate(wanted)
        make_directory(folder)
        folder.chmod(0o700)
        write_atomically(key, [secret])
        key.chmod(0o600)
        write_atomically(certificate, [made])
    return certificate, key


def _still_good(certificate: Path, key: Path, names: Sequence[str]) -> bool:
    from cryptography import x509

    try:
        check_certificate(certificate, key)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        listed = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ConfigError, OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return sorted(str(each.value) for each in listed) == list(names) and left.days >= _LEFT


def _new_certificate(names: Sequence[str]) -> tuple[bytes, bytes]:
    """PEM of a certificate for these names, signed with its own key, and of the key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ViT-LR live page")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def _encoded(name: str) -> str:
    """A host's name as certificates have it."""
    try:
        return name.encode("ascii" if name.isascii() else "idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ConfigError(f"{name!a} is not the name of a host ({error}); give another one") from error


def _general(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
