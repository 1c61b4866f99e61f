"""What a TLS server needs, loaded from its files: by the server to use it, and by `check` to try it.

The dates of certificates are read here too, for the ssl module tells those of its own side to nobody.
"""

from __future__ import annotations

import base64
import logging
import re
import ssl
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collector.config import Tls

log = logging.getLogger(__name__)

# The names of what OpenSSL takes for a certificate.
_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([^-]+)-----END ")
_VERSION, _UTC_TIME, _LONG_FORM = 0xA0, 0x17, 0x80
_RENEW = "put a new one in its place and send SIGHUP"


class Certificate(NamedTuple):
    """One certificate of a file."""

    der: bytes
    begin: datetime
    end: datetime

    def trouble(self, now: datetime) -> str:
        """Return what is wrong with its dates at a time, "" if nothing is."""
        if now > self.end:
            return f"expired on {self.end:%Y-%m-%d}"
        return f"is not valid before {self.begin:%Y-%m-%d}" if now < self.begin else ""


class ServerTls(NamedTuple):
    """What clients are served with, and the certificates of which that was made."""

    context: ssl.SSLContext
    files: Tls
    chain: list[Certificate]
    """The server's own, and those that lead from it to an authority."""
    client_ca: list[Certificate]

    def changed(self, before: ServerTls | None) -> list[str]:
        """Return what of the files' contents is another than it was, in words."""
        changed = []
        if before is None or self.chain != before.chain:
            until = f"{self.chain[0].end:%Y-%m-%d}"
            changed.append(f"[listen.tls] certificate {self.files.certificate}, valid until {until}")
        if self.client_ca and (before is None or self.client_ca != before.client_ca):
            until = f"{min(each.end for each in self.client_ca):%Y-%m-%d}"
            changed.append(f"[listen.tls] client_ca {self.files.client_ca}, valid until {until}")
        return changed

    def trouble(self) -> list[str]:
        """Return what is wrong with the dates of its certificates by now, a line each."""
        now = datetime.now(timezone.utc)
        own, *issuers = self.chain
        lines = []
        if why := own.trouble(now):
            lines.append(f"[listen.tls] certificate {self.files.certificate} {why}: clients refuse it")
        what = f"[listen.tls] certificate {self.files.certificate}"
        lines += _troubles(what, issuers, now, "clients that need it refuse the server's", 2)
        what = f"[listen.tls] client_ca {self.files.client_ca}"
        lines += _troubles(what, self.client_ca, now, "clients that need it are refused")
        return [f"{line}; {_RENEW}" for line in lines]

    def warn(self) -> None:
        """Log what is wrong with the dates."""
        for line in self.trouble():
            log.warning("%s", line)


def _troubles(
    what: str, certificates: list[Certificate], now: datetime, effect: str, first: int = 1
) -> list[str]:
    """Return what is wrong with certificates, of which the *first* has that number in the file *what*."""
    number_of_all = first + len(certificates) - 1
    return [
        f"{what}: certificate {number} of {number_of_all} {why}: {effect}"
        for number, certificate in enumerate(certificates, first)
        if (why := certificate.trouble(now))
    ]


def load(tls: Tls, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ServerTls:
    """Return what the files make, with a context of a *kind*: the server's is gevent's, not loaded here.

    Raises OSError, with the keys and the files that were at fault.
    """
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    # A client that only sends never reads the session tickets of TLS 1.3. Unread, they make its close() reset
    # the connection, and what we have not read by then is gone. No handler resumes a session anyway.
    context.num_tickets = 0
    faults = []
    chain: list[Certificate] = []
    client_ca: list[Certificate] = []
    try:
        # A password, which none has: else a key that wants one is asked for on the terminal, and start waits.
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
        chain = _certificates(tls.certificate)
    except OSError as error:  # ssl.SSLError is one
        what = f"certificate = {tls.certificate!r}, private_key = {tls.private_key!r}"
        faults.append(f"[listen.tls] {what} cannot be loaded: {error}")
    if tls.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        # An intermediate authority that the operator has named is trusted by itself. Without this nobody whom
        # it has signed would be let in where its root is not in the file.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(tls.client_ca)
            client_ca = _certificates(tls.client_ca)
        except OSError as error:
            faults.append(f"[listen.tls] client_ca = {tls.client_ca!r} cannot be loaded: {error}")
    if faults:
        raise OSError("; ".join(faults))
    return ServerTls(context, tls, chain, client_ca)


def _certificates(path: str) -> list[Certificate]:
    """Return the certificates in a PEM file that OpenSSL has loaded. Raises OSError."""
    with open(path, "rb") as file:
        texts = _PEM.findall(file.read())
    try:
        return [Certificate(der, *_validity(der)) for der in map(base64.b64decode, texts)]
    except (IndexError, ValueError) as error:
        raise OSError(f"the dates of a certificate cannot be read: {error}") from error


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Return from when until when a certificate is valid (RFC 5280, 4.1). Raises IndexError or ValueError."""
    to_be_signed = _values(_values(der)[0][1])[0][1]
    # [version], serialNumber, signature, issuer, validity, subject...
    values = [value for tag, value in _values(to_be_signed) if tag != _VERSION]
    begin, end = (_time(tag, value.decode("ascii")) for tag, value in _values(values[3]))
    return begin, end


def _values(der: bytes) -> list[tuple[int, bytes]]:
    """Return the values, each with its tag, that stand one after the other in *der* (X.690, 8.1)."""
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
    if tag == _UTC_TIME:  # of the years from 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
