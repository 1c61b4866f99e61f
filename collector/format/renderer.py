"""Which kind of line a record becomes. The one place that chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.format.json_lines import json_renderer
from collector.format.text_lines import text_renderer

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.config.tables import Format
    from collector.wire.records import Record


def renderer(form: Format) -> Callable[[Record, str], str]:
    """Return the function that renders a record, from a given `address:port`, as *form* says.

    Its result ends in a newline, and may hold others and lone surrogates: encode it with "backslashreplace".
    """
    return json_renderer() if form.style == "json" else text_renderer(form)
