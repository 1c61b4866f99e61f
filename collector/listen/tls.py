"""What a TLS server needs, loaded from its files: the server uses it, and `check` tries it.

The dates of certificates are read here too: the ssl module does not tell those of its own side.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import ssl
import stat
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from collector.config.toml_text import shown

if TYPE_CHECKING:
    from collector.config.tables import Tls

log = logging.getLogger(__name__)

# Every name under which OpenSSL accepts a certificate.
_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([^-]+)-----END ")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
# The certificates of ten thousand clients take this much.
_MAX_FILE_BYTES = 16 * 1024 * 1024
_VERSION, _UTC_TIME, _LONG_FORM = 0xA0, 0x17, 0x80
_RENEW = "put a new one in its place and send SIGHUP"


class Certificate(NamedTuple):
    """One certificate of a file."""

    der: bytes
    begin: datetime
    end: datetime

    def trouble(self, now: datetime) -> str:
        """Return what is wrong with its dates at the time *now*, "" if nothing is."""
        if now > self.end:
            return f"expired on {self.end:%Y-%m-%d}"
        return f"is not valid before {self.begin:%Y-%m-%d}" if now < self.begin else ""


class ServerTls(NamedTuple):
    """What clients are served with, and the certificates it was made from."""

    context: ssl.SSLContext
    files: Tls
    chain: list[Certificate]
    """The server's own, then those that lead from it to an authority."""
    client_ca: list[Certificate]

    def changes(self, before: ServerTls | None) -> list[str]:
        """Return what has changed in the contents of the files, in words."""
        changes = []
        if before is None or self.chain != before.chain:
            until = f"{self.chain[0].end:%Y-%m-%d}"
            changes.append(f"[listen.tls] certificate {self.files.certificate}, valid until {until}")
        if self.client_ca and (before is None or self.client_ca != before.client_ca):
            until = f"{min(each.end for each in self.client_ca):%Y-%m-%d}"
            changes.append(f"[listen.tls] client_ca {self.files.client_ca}, valid until {until}")
        return changes

    def troubles(self) -> list[str]:
        """Return what is wrong with the dates of its certificates now, one line each."""
        now = datetime.now(timezone.utc)
        own, *issuers = self.chain
        lines = []
        if why := own.trouble(now):
            lines.append(f"[listen.tls] certificate {self.files.certificate} {why}: clients refuse it")
        what = f"[listen.tls] certificate {self.files.certificate}"
        lines += _date_troubles(what, issuers, now, "clients that need it refuse the server's", 2)
        what = f"[listen.tls] client_ca {self.files.client_ca}"
        lines += _date_troubles(what, self.client_ca, now, "clients that need it are refused")
        return [f"{line}; {_RENEW}" for line in lines]

    def warn(self) -> None:
        """Log what is wrong with the dates of its certificates."""
        for line in self.troubles():
            log.warning("%s", line)


def _date_troubles(
    what: str, certificates: list[Certificate], now: datetime, effect: str, first: int = 1
) -> list[str]:
    """Return what is wrong with *certificates*, which are numbered from *first* in the file *what*."""
    number_of_all = first + len(certificates) - 1
    return [
        f"{what}: certificate {number} of {number_of_all} {why}: {effect}"
        for number, certificate in enumerate(certificates, first)
        if (why := certificate.trouble(now))
    ]


class TlsError(OSError):
    """Files of [listen.tls] cannot be used: `faults` names each of them and says why."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def load_tls(tls: Tls, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ServerTls:
    """Return what the files make. The server passes gevent's *kind* of context, which is not loaded here.

    Raises TlsError.
    """
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    # A client that only sends never reads the session tickets of TLS 1.3. Unread, they make its close() reset
    # the connection, and what we have not read by then is lost. No handler resumes a session anyway.
    context.num_tickets = 0
    faults: list[str] = []
    chain = _certificates("certificate", tls.certificate, faults)
    has_key = _has_private_key(tls.private_key, faults)
    if chain and has_key:
        try:
            # No key has a password. Without one here, OpenSSL would ask for it on the terminal and wait.
            context.load_cert_chain(tls.certificate, tls.private_key, password="")
        except OSError as error:  # ssl.SSLError is one
            faults.append(_mismatch(tls, error))
    client_ca = _certificates("client_ca", tls.client_ca, faults) if tls.client_ca else []
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        # An intermediate authority that the operator has named is trusted by itself. Without this flag,
        # nobody whom it has signed would be let in unless its root is in the file as well.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(tls.client_ca)
    if faults:
        raise TlsError(faults)
    return ServerTls(context, tls, chain, client_ca)


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return what a client on this machine needs; it knows the server by its files, not by a name.

    Raises TlsError.
    """
    faults: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if _certificates("certificate", tls.certificate, faults):
        context.load_verify_locations(tls.certificate)
    if tls.client_ca and not faults and _has_private_key(tls.private_key, faults):
        # The server's own certificate is the only one at hand; it serves a client too, if the authority
        # allows that.
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
    if faults:
        raise TlsError(faults)
    return context


def _fault(key: str, path: str, why: object) -> str:
    return f"[listen.tls] {key} = {shown(path)} cannot be loaded: {why}"


def _read(key: str, path: str, faults: list[str]) -> bytes:
    """Return the contents of a file, no more than a PEM file may have; b"" and a fault if there are none."""
    try:
        # Anything but a file, a FIFO say, is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                faults.append(_fault(key, path, "not a regular file"))
                return b""
            data = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        faults.append(_fault(key, path, error.strerror))
        return b""
    if not data:
        faults.append(_fault(key, path, "the file is empty"))
    return data


def _certificates(key: str, path: str, faults: list[str]) -> list[Certificate]:
    """Return the certificates in a PEM file; none, and a fault, if one of them cannot be used."""
    data = _read(key, path, faults)
    texts = _PEM.findall(data)
    if data and not texts:
        faults.append(_fault(key, path, "no certificate in PEM form (-----BEGIN CERTIFICATE-----)"))
    if not texts:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        return [Certificate(der, *_validity(der)) for der in map(base64.b64decode, texts)]
    except OSError as error:
        faults.append(_fault(key, path, f"a certificate is damaged ({_reason(error)})"))
    except (IndexError, ValueError) as error:
        faults.append(_fault(key, path, f"the dates of a certificate cannot be read: {error}"))
    return []


def _has_private_key(path: str, faults: list[str]) -> bool:
    data = _read("private_key", path, faults)
    why = ""
    if b"ENCRYPTED" in data:
        why = "it has a password, and nobody can be asked for it; remove it: openssl pkey -in FILE -out FILE"
    elif not _KEY.search(data):
        why = "no private key in PEM form (-----BEGIN PRIVATE KEY-----)"
    if data and why:
        faults.append(_fault("private_key", path, why))
    return bool(data) and not why


def _mismatch(tls: Tls, error: OSError) -> str:
    """Return the fault of a certificate and a key that do not load together; each by itself looks sound."""
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return _fault("private_key", tls.private_key, f"it is not the key of {shown(tls.certificate)}")
    if reason:  # as for a key that is too short
        return _fault("certificate", tls.certificate, _reason(error))
    return _fault("private_key", tls.private_key, "the key is damaged")


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else "no base64, or cut"


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Return from when until when a certificate is valid (RFC 5280, 4.1). Raises IndexError, ValueError."""
    to_be_signed = _values(_values(der)[0][1])[0][1]
    # [version], serialNumber, signature, issuer, validity, subject...
    values = [value for tag, value in _values(to_be_signed) if tag != _VERSION]
    begin, end = (_time(tag, value.decode("ascii")) for tag, value in _values(values[3]))
    return begin, end


def _values(der: bytes) -> list[tuple[int, bytes]]:
    """Return the values that follow each other in *der*, each with its tag (X.690, 8.1)."""
    found = []
    at = 0
    while at < len(der):
        tag, size = der[at : at + 2]
        at += 2
        if size >= _LONG_FORM:
            more = size - _LONG_FORM
            size = int.from_bytes(der[at : at + more], "big")
            at += more
        found.append((tag, der[at : at + size]))
        at += size
    return found


def _time(tag: int, text: str) -> datetime:
    if tag == _UTC_TIME:  # years 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
