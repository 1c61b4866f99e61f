"""What a TLS server needs, loaded from its files: by the server to use it, and by `check` to try it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.config import Tls


def load_context(tls: Tls, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    """Return a context of a *kind*: the server's is gevent's, which this module does not load.

    Raises OSError, with the keys and the files that were at fault.
    """
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    # A client that only sends never reads the session tickets of TLS 1.3. Unread, they make its close() reset
    # the connection, and what we have not read by then is gone. No handler resumes a session anyway.
    context.num_tickets = 0
    faults = []
    try:
        # A password, which none has: else a key that wants one is asked for on the terminal, and start waits.
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
    except OSError as error:  # ssl.SSLError is one
        what = f"certificate = {tls.certificate!r}, private_key = {tls.private_key!r}"
        faults.append(f"[listen.tls] {what} cannot be loaded: {error}")
    if tls.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            faults.append(f"[listen.tls] client_ca = {tls.client_ca!r} cannot be loaded: {error}")
    if faults:
        raise OSError("; ".join(faults))
    return context
