"""What the types of destinations differ in: the keys that only some take, those they need, their defaults.

The checks of single settings are in forward_checks; here is what makes no sense of them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from collector.config.tables import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELASTICSEARCH, _SYSLOG, _FLUENT = ("elasticsearch",), ("relp", "syslog"), ("fluent",)
# A key that is not here is one of every type.
_TYPES_WITH = {
    **dict.fromkeys(
        ("url", "urls", "proxy", "api_key_file", "token_file", "index", "pipeline"), _ELASTICSEARCH
    ),
    **dict.fromkeys(("user", "password_file", "compression"), _ELASTICSEARCH + _FLUENT),
    "address": _SYSLOG + _FLUENT,
    **dict.fromkeys(("facility", "app_name", "window"), _SYSLOG),
    **dict.fromkeys(("tag", "shared_key_file"), _FLUENT),
}
# Many small requests cost an index more than a few large ones; to others a record goes at once.
# Of a message of 20 kB rsyslog keeps 8 and acknowledges it all the same.
_DEFAULTS: dict[str, dict[str, Any]] = {
    **{kind: {"batch_seconds": 0, "max_record_bytes": 8_000} for kind in _SYSLOG},
    "fluent": {"batch_seconds": 0},
}
# Each with the one that it is nothing without, and why.
_PAIRS = (
    ("certificate", "private_key", "its key"),
    ("private_key", "certificate", "which it is the key of"),
    ("user", "password_file", "the file of that user's password"),
    ("password_file", "user", "whose password it is"),
)
_INSTEAD = {"url": "write address", "urls": "write address", "address": "write url"}
_CREDENTIALS = ("user", "api_key_file", "token_file")


def keys_of(kind: str) -> list[str]:
    """Return the keys that a destination of this type takes, in the order of the manual."""
    return [key for key in Forward.__dataclass_fields__ if kind in _TYPES_WITH.get(key, (kind,))]


def forward(values: dict[str, Any]) -> Forward:
    """Return a destination of checked *values*, `name` and `type` among them, with its type's defaults."""
    return Forward(**{**_DEFAULTS.get(values["type"], {}), **values})


def faults(forward: Forward, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key of *given*, the table of *forward*, that does not fit the rest of it, with the rule.

    "" is the key of what the table lacks. What has a fault of its own is in *given* and not in *forward*.
    """
    kind = forward.type
    for key in given:
        if kind not in (types := _TYPES_WITH.get(key, (kind,))):
            yield key, f"is for {' and '.join(types)}, not for {kind}; {_INSTEAD.get(key, 'remove it')}"
    own = {key for key in keys_of(kind) if given.get(key, "") not in ("", [])}
    if all(given.get(key, []) == [] for key in _INSTEAD):
        lacks = (
            'url; add url = "https://HOST:PORT"'
            if kind in _ELASTICSEARCH
            else 'address; add address = "HOST:PORT"'
        )
        yield "", f"has no {lacks}"
    if {"url", "urls"} <= own:
        yield "url", "names a server as urls does; remove one of the two"
    for key, other, why in _PAIRS:
        if key in own and other not in own:
            yield key, f"needs {other}, {why}; add it"
    first, *others = [key for key in _CREDENTIALS if key in own] or [""]
    for key in others:
        yield key, f"is one way to be known there, {first} another; remove one of the two"
    if kind in _FLUENT and "user" in own and "shared_key_file" not in own:
        yield "user", "needs shared_key_file, without which no server asks for a user; add it"
    yield from _tls_faults(forward, own)
    for name in sorted({*forward.loggers} & {*forward.exclude}):
        yield "exclude", f"has {name}, as loggers has; remove it from one of the two"


def _tls_faults(forward: Forward, own: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what would be without effect on a connection that nothing makes TLS."""
    if forward.type not in _ELASTICSEARCH and "certificate" in own and "ca" not in own:
        yield "certificate", "needs ca, which makes the connection TLS and says whom to trust; add it"
    if any(url.startswith("http://") for url in (forward.url, *forward.urls)):
        for key in sorted(own & {"ca", "certificate"}):
            yield key, "is for TLS, and there is a URL with http://; write https://"
