"""The checks of single settings that only destinations have, as those in checks. Knows no table, no key."""

from __future__ import annotations

import difflib
import re
import time
from urllib.parse import urlsplit

from collector.config import checks

TYPES = ("elasticsearch", "relp", "syslog", "fluent")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
"""The names of the facilities of RFC 5424, 6.2.1, each at the place of its number."""
FACILITY = checks.one_of(", ".join(FACILITIES), *FACILITIES)

_NAME = re.compile("[a-z0-9_-]{1,64}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*:[^\[\]]*)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65_535
# What Elasticsearch and OpenSearch take, less the characters that would have to be escaped in a URL.
_INDEX = re.compile(r"\.?[a-z0-9][-._+a-z0-9]{0,253}")
# Of a year and a month: a pattern that does not name the day makes one index of two of them.
_DAYS = range(0, 400 * 86_400, 86_400)
_LAST_SECOND = 86_399
_APP_NAME = re.compile("[!-z|~]{,48}")  # as RFC 5424 bounds it


def is_name(value: object) -> bool:
    """Tell whether it can be the name of a destination."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def name(value: object) -> object:
    """Check the name of a destination."""
    if is_name(value):
        return value
    raise ValueError("must be 1 to 64 of the characters a-z, 0-9, _ and -, in quotes")


def kind(value: object) -> object:
    """Check the type of a destination."""
    if isinstance(value, str) and value in TYPES:
        return value
    near = difflib.get_close_matches(value.lower(), TYPES, 1) if isinstance(value, str) else []
    rule = f"must be one of {', '.join(TYPES)}"
    raise ValueError(f"{rule}; did you mean {near[0]}?" if near else rule)


def address(value: object) -> object:
    """Check a host with its port, of which host_and_port() makes two values."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match and _is_host(match["ipv6"] or match["host"]) and 1 <= int(match["port"]) <= _MAX_PORT:
        return value
    raise ValueError(
        'must be a host and a port from 1 to 65535, such as "logs.example.org:2514" or "[::1]:2514"'
    )


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of what address() has accepted, an IPv6 address without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def url(value: object) -> object:
    """Check the URL of a server; a path in it is put before every request's own."""
    return _url(value, ("https", "http"), "https://es.example.org:9200")


def urls(value: object) -> object:
    """Check a list of such URLs; return it as a tuple."""
    if isinstance(value, list):
        return tuple(url(each) for each in value)
    raise ValueError('must be a list of URLs in quotes, such as ["https://es1:9200", "https://es2:9200"]')


def proxy(value: object) -> object:
    """Check the URL of a proxy; an empty one stands for none."""
    return value if value == "" else _url(value, ("http",), "http://proxy.example.org:3128")


def _url(value: object, schemes: tuple[str, ...], example: str) -> object:
    fault = ValueError(
        f'must be a URL in quotes that begins with {":// or ".join(schemes)}://, as "{example}"'
    )
    if not checks.is_line(value) or re.search(r"[\s?#]", str(value)):
        raise fault
    try:
        parts = urlsplit(str(value))
        valid = parts.scheme in schemes and _is_host(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket without the other
        raise fault from None
    if "@" in parts.netloc:
        raise ValueError("must have no user and no password in it; secrets are read from files of their own")
    if not valid:
        raise fault
    return value


def _is_host(value: object) -> bool:
    try:
        return bool(checks.HOST(value))
    except ValueError:
        return False


def logger_names(value: object) -> object:
    """Check a list of loggers; return it as a tuple."""
    if isinstance(value, list) and all(checks.is_logger_name(each) for each in value):
        return tuple(value)
    raise ValueError('must be a list of names of loggers in quotes, such as ["payments", "web.access"]')


def user(value: object) -> object:
    """Check the name of a user; an empty one stands for none."""
    if value == "" or (checks.is_line(value) and ":" not in str(value)):
        return value
    raise ValueError('must be text in quotes, without ":", newline or control character; empty for none')


def optional_line(value: object) -> object:
    """Check one line of text; an empty one stands for none."""
    return value if value == "" else checks.LINE(value)


def index(value: object) -> object:
    """Check the name of an index as strftime makes one for each day, or that of a data stream."""
    pattern = str(checks.LINE(value))
    if "%" not in pattern:
        made = {pattern}
    else:
        days = [{_made(pattern, day), _made(pattern, day + _LAST_SECOND)} for day in _DAYS]
        made = set().union(*days)
        if len(made) != len(days) or any(len(names) > 1 for names in days):
            rule = "must give each day one index, which no other day has, as collector-%Y.%m.%d does"
            raise ValueError(f"{rule}; or have no %, for a data stream")
    for each in sorted(made):
        if not _INDEX.fullmatch(each):
            rule = "must make a name of a-z, 0-9 and -._+, a letter or digit first, of up to 255 characters"
            raise ValueError(f"{rule}; it makes {each[:300]}" if each != pattern else rule)
    return value


def _made(pattern: str, second: int) -> str:
    return time.strftime(pattern, time.gmtime(second))


def tag(value: object) -> object:
    """Check the tag of messages; {logger} is filled in for each record."""
    rest = value.replace("{logger}", "") if isinstance(value, str) else "{"
    if checks.is_line(value) and not re.search(r"[\s{}]", rest):
        return value
    raise ValueError(
        'must be text in quotes, without blanks and braces but {logger}, as "collector.{logger}"'
    )


def app_name(value: object) -> object:
    """Check the APP-NAME of RFC 5424; {logger} is filled in for each record."""
    if isinstance(value, str) and value and _APP_NAME.fullmatch(value.replace("{logger}", "")):
        return value
    rule = "must be 1 to 48 printable characters of ASCII in quotes, without blanks and braces but {logger}"
    raise ValueError(rule)
