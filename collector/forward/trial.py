"""One real record to a destination, and what becomes of it: what `check --send` does.

It takes no lock, and neither reads nor writes a checkpoint, so the forwarder may run beside. Whatever a
destination is or lacks, there is an outcome. Makes nothing.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from collector.forward.choose import make
from collector.forward.verdicts import CHECK_SECONDS, BrokenError, HoldError, Outgoing, RequestError
from collector.spool.reading import OLDEST, Spooled, SpoolReader
from collector.wire.fragments import RecordReader

if TYPE_CHECKING:
    from collector.config.tables import Forward

MESSAGE = "a record of collector check --send"
_ID_BYTES = 8


class Sent(NamedTuple):
    """What became of the record."""

    stored: bool
    text: str
    """The verdict, with the id; why, and what helps, where it is not stored."""


def send_one(settings: Forward, directory: str) -> Sent:
    """Send one record to a destination, past its filter.

    Its id is `<collector id>-check-<random>`, with the id of the spool in *directory*; a random one stands in
    for that as long as there is no spool. Connecting and sending have CHECK_SECONDS each. Raises nothing that
    has to do with the destination.
    """
    collector_id = ""
    with suppress(OSError):  # what keeps the spool from being read is told by the trial of the spool
        collector_id = SpoolReader(directory, OLDEST).collector_id
    collector_id = collector_id or secrets.token_hex(_ID_BYTES)
    id_ = f"{collector_id}-check-{secrets.token_hex(_ID_BYTES)}"
    received = time.time_ns()
    fields = {"name": "collector", "levelno": logging.INFO, "levelname": "INFO", "msg": MESSAGE}
    payload = json.dumps({**fields, "created": received / 10**9}).encode()
    spooled = Spooled(collector_id, *OLDEST, received, "", payload)
    (record,) = RecordReader().read([payload], [], [])
    destination = make(replace(settings, timeout_seconds=min(settings.timeout_seconds, CHECK_SECONDS)))
    try:
        destination.connect()
        data = destination.render(spooled, record, id_)
        (verdict,) = destination.send([Outgoing(id_, spooled.epoch, spooled.number, received, data)], False)  # noqa: FBT003 - the protocol
    except HoldError as error:
        return Sent(stored=False, text=f"{id_} is not stored, the destination holds: {error}{error.advice}")
    except RequestError as error:
        doubt = ", and nobody knows whether it is stored" if isinstance(error, BrokenError) else ""
        return Sent(stored=False, text=f"{id_} has no verdict{doubt}: {error}")
    except OSError as error:
        return Sent(stored=False, text=f"{id_} is not stored: {error}")
    except Exception as error:  # noqa: BLE001 - as for a forwarder, it is one destination's trouble
        return Sent(stored=False, text=f"{id_} cannot be sent: {type(error).__name__}: {error}")
    finally:
        destination.close()
    if verdict.kind == "stored":
        return Sent(stored=True, text=f"{id_} is stored")
    refused = "refused" if verdict.kind == "dead" else f"not stored, {verdict.kind}"
    return Sent(stored=False, text=f"{id_} is {refused}: {verdict.reason}")
