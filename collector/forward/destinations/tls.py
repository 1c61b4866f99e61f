"""TLS to a destination.

Its files are read at each connection, so one that is replaced counts from the next on. Knows no protocol.
"""

from __future__ import annotations

import calendar
import ssl
import time
from typing import TYPE_CHECKING

from collector.forward.verdicts import HoldError

if TYPE_CHECKING:
    import socket

    from collector.config.tables import Forward

FEW_DAYS = 14
"""A certificate that ends within them is worth a warning."""
_DAY_SECONDS = 24 * 60 * 60
# Tags of DER.
_VERSION = 0xA0
_UTC_TIME = 0x17  # whose years have two digits


def client_context(settings: Forward) -> ssl.SSLContext:
    """Return what TLS is spoken by: `ca`, else the CAs of the system; a certificate of ours where one is set.

    Raises HoldError where a file is missing or is not what it should be.
    """
    what = f"ca = {settings.ca}"
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.certificate:
            what = f"certificate = {settings.certificate}, private_key = {settings.private_key}"
            context.load_cert_chain(settings.certificate, settings.private_key or None, password=_refuse)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        remedy = "put PEM files there that this user may read; they are read again at the next try"
        raise HoldError("tls", f"{what}: {error}", remedy) from None
    return context


def tls_fault(error: ssl.SSLError, where: str) -> HoldError | None:
    """Return what holds a destination whose TLS failed so; None: the peer merely went away."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return None
    remedy = (
        "see that its certificate is valid for this name, that ca signed it, and which certificate it wants"
    )
    return HoldError("tls", f"{where}: {error}", remedy)


def days_left(connected: socket.socket, certificate: str) -> float | None:
    """Return how long the peer's certificate is valid, or that in the file *certificate* if it ends sooner.

    *certificate* may be "". None where *connected* speaks no TLS.
    """
    peer = connected.getpeercert(binary_form=True) if isinstance(connected, ssl.SSLSocket) else None
    if peer is None:
        return None
    ends = [_not_after(peer)]
    if certificate:
        with open(certificate, encoding="ascii", errors="replace") as file:
            text = file.read()
        begin = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)
        ends.append(_not_after(ssl.PEM_cert_to_DER_cert(text[begin:end])))
    return (min(ends) - time.time()) / _DAY_SECONDS


def _not_after(certificate: bytes) -> float:
    """Return when a certificate in DER ends: X.509's TBSCertificate has the validity as its fifth element."""
    start, _ = _element(certificate, 0)
    position, _ = _element(certificate, start)
    # All but certificates of X.509's first version have their version before the rest.
    before = ("version", "serial number", "signature", "issuer")
    for _ in before if certificate[position] == _VERSION else before[1:]:
        position = _element(certificate, position)[1]
    start, _ = _element(certificate, position)
    _, second = _element(certificate, start)
    begin, end = _element(certificate, second)
    digits = certificate[begin:end].decode("ascii")
    if certificate[second] == _UTC_TIME:
        digits = ("19" if digits >= "5" else "20") + digits
    return float(calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ")))


def _element(data: bytes, at: int) -> tuple[int, int]:
    """Return where the contents of the element of DER at *at* begin and end."""
    length, at = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    return at, at + length


def _refuse() -> str:
    """Stand for the password of a key: OpenSSL would ask the terminal for it, and wait."""
    raise ValueError("the key is encrypted; a forwarder has nobody to ask for its password")
