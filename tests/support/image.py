"""What the Dockerfile says."""

from __future__ import annotations

import json
import re

from tests.support.places import HOME


def healthcheck() -> list[str]:
    """Return the command of the image's HEALTHCHECK."""
    dockerfile = (HOME / "Dockerfile").read_text(encoding="utf-8")
    command: list[str] = json.loads(
        re.findall(r"^HEALTHCHECK .*\\\n  CMD (\[.*\])$", dockerfile, re.MULTILINE)[0]
    )
    return command
