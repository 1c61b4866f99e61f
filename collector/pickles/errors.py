"""What is raised where the reading of a pickle cannot go on."""

from __future__ import annotations


class RecordError(ValueError):
    """The payload cannot be read; the text says at which byte and why, and is fit for a log line."""

    reason = "not a pickle that can be read"
    """The kind of it, as it is counted."""


class OverBudgetError(Exception):
    """A budget ran out, and the text says which; what has been decoded so far is the result."""
