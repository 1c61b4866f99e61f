"""What the Dockerfile says."""

from __future__ import annotations

import json
import re
import sys

from tests.support.places import HOME


def healthcheck() -> list[str]:
    """Return the command of the image's HEALTHCHECK, with the collector that is tested."""
    dockerfile = (HOME / "Dockerfile").read_text(encoding="utf-8")
    command: list[str] = json.loads(
        re.findall(r"^HEALTHCHECK .*\\\n  CMD (\[.*\])$", dockerfile, re.MULTILINE)[0]
    )
    assert "collector" == command[0]
    return [sys.executable, "-m", *command]
