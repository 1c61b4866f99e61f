"""Tables of destinations, and what a forwarder has told of one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "http://127.0.0.1:1"
"""Where nobody listens."""


def destination(url: str, name: str = "elk", more: str = "batch_seconds = 0") -> str:
    """Return the table of a destination at *url*."""
    return f'[[forward]]\nname = "{name}"\ntype = "elasticsearch"\nurl = "{url}"\n{more}\n'


def told(spool: Path, name: str = "elk") -> dict[str, Any]:
    """Return the status in a spool, {} if there is none yet."""
    with suppress(FileNotFoundError):
        return json.loads((spool / f"{name}.status.json").read_text())  # type: ignore[no-any-return]
    return {}
