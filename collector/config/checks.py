"""The checks of single settings: take a value as TOML has it, return what the program uses.

Each raises ValueError with the rule and the remedy. Knows no table and no key.
"""

from __future__ import annotations

import codecs
import difflib
import ipaddress
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

from collector import levels
from collector.names import BACKUP, MAX_NAME_BYTES, OVERFLOW_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

# One conversion of a text format, or `%%`, whose group `name` is None. Width and precision are digits
# and at most 1000: `%(name)999999999d` would make a gigabyte of every record.
TEXT_FIELD = re.compile(
    r"%(?:%|\((?P<name>[^()]+)\)(?P<flags>[-#0 +]*)(?P<width>1000|[0-9]{0,3})"
    r"(?:\.(?P<precision>1000|[0-9]{0,3}))?(?P<type>[diouxXeEfFgGcrsa]))"
)

_UNIX_PATH_BYTES = 107
_IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 as IPv6 sockets show it
_HOST_CHARACTERS = 253
_LOGGER_CHARACTERS = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What a shell would have expanded.
_UNEXPANDED = re.compile(r"\A~|\$[A-Za-z_{]")
# What it would have taken away, as nothing does of a line in a file for `docker run --env-file`.
QUOTED = re.compile("(['\"]).*\\1")
_TWICE = "must be without the quotes around it, which would be a part of the name"

# What a text format of another style, `{` or `$` of logging.Formatter, has where ours has %(name)s.
_OTHER_STYLES = re.compile(r"\{(\w+)(?:![rsa])?(?::[^{}]*)?\}|\$(\w+)|\$\{(\w+)\}")
_RECORD_ATTRIBUTES = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "client"}
_MESSAGE_FIELDS = ("message", "msg")

# The conversions of strftime in C99 and in glibc, which takes flags and a width as well.
_STRFTIME_CONVERSION = re.compile(
    r"%(?:[-_0^#]*[0-9]{0,3}(?:E[cCxXyY]|O[deHImMSuUVwWy]|[aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%])|(?P<not>[-_0-9^#EO:]*.?))"
)
_FRACTION_LETTERS = "fLNQ"  # of a second, as datetime, Ruby, date(1) and others have them

# Python calls these text encodings, but decodes them in time quadratic in what a client sent.
_QUADRATIC_ENCODINGS = ("idna", "punycode")
# What a client sends in ASCII must read the same. The first text has escapes of unicode_escape, utf-7
# and hz; it comes first because unicode_escape warns about the backslash in the second.
_ASCII = (rb"\u0041 +AGE- ~{", bytes(range(0x20, 0x7F)))

# A part of a path has up to 255 bytes, of which a backup takes `.2026-11-22T10-00-00.99999.gz`. No field
# takes more than these.
_PART_BYTES = 255 - 30
_PATH_BYTES = 1000
_FIELD_BYTES = {"{logger}": MAX_NAME_BYTES, "{client}": 39}
_FIELD = re.compile(r"\{logger\}|\{client\}")
# Ends that a name from the wire can complete to that of a backup: `{logger}.gz` by `a.gz.2026-11-22`.
_BACKUP_END = re.compile(r"[-.T0-9]*(?:g?z)?", re.ASCII)


class NumberError(ValueError):
    """A value is not the number that its key takes; the key's name tells what a unit in it is to become."""


def _must(rule: str, holds: Callable[[Any], object]) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not holds(value):
            raise ValueError(f"must be {rule}")
        return value

    return check


def number(low: int, high: int, *kinds: type, what: str = "a whole number") -> Callable[[object], object]:
    """Return a check of a number from *low* to *high*: an integer, or one of *kinds*."""
    # By type, as isinstance takes true for a number.
    rule = f"{what} from {low} to {high}, without quotes"

    def check(value: object) -> object:
        if type(value) in (int, *kinds) and low <= value <= high:  # type: ignore[operator] # a number
            return value
        raise NumberError(f"must be {rule}")

    return check


def one_of(rule: str, *allowed: str) -> Callable[[object], object]:
    """Return a check of a word that must be among *allowed*; *rule* lists them for the message."""
    by_small_letters = {word.lower(): word for word in allowed}

    def check(value: object) -> object:
        if isinstance(value, str) and value in allowed:
            return value
        near = difflib.get_close_matches(str(value).lower(), by_small_letters, 1)
        meant = f"; did you mean {by_small_letters[near[0]]}?" if near else ""
        raise ValueError(f"must be one of {rule}{meant}")

    return check


def is_line(value: object) -> bool:
    """Tell whether it is one line of text, not empty, that a terminal shows as it is."""
    return isinstance(value, str) and value != "" and not _CONTROL.search(value.replace("\t", " "))


def _is_host(value: str) -> bool:
    if not is_line(value) or len(value) > _HOST_CHARACTERS:
        return False
    # A host with its port has one colon; glibc takes "*" for every address. No name has quotes.
    if re.search(r"[\s*/@'\"]", value) or value.count(":") == 1:
        return False
    try:  # what idna refuses would be a UnicodeError when the port is opened, where OSError is expected
        return bool(value.encode("idna"))
    except UnicodeError:
        return False


def _is_host_name(value: str) -> bool:
    return _is_host(value) and ":" not in value


def _is_encoding(value: str) -> bool:
    try:
        usable = is_line(value) and codecs.lookup(value).name not in _QUADRATIC_ENCODINGS
        return usable and all(text.decode(value) == text.decode("ascii") for text in _ASCII)
    except (LookupError, ValueError):  # unknown, or not of text (hex, rot13); cannot read ASCII
        return False


def is_logger_name(value: object) -> bool:
    """Tell whether it can be the name of a logger."""
    return isinstance(value, str) and len(value) <= _LOGGER_CHARACTERS and all(value.split("."))


FLAG = _must("true or false, without quotes", lambda value: isinstance(value, bool))
LINE = _must("text in quotes, not empty, without newline or control character but tab", is_line)
HOST = _must("an IP address or a host name, without port; :: is every address", _is_host)
ENCODING = _must("a text encoding that Python knows and that extends ASCII, such as utf-8", _is_encoding)
LOGGER_NAME = _must(
    "the name of a logger in quotes: up to 1000 characters, no dot at an end, no two in a row", is_logger_name
)
# It also stands in a URL and in a cookie.
TOKEN = _must(
    "text in quotes of letters, digits and -._~ alone, or empty for none",
    lambda value: isinstance(value, str) and re.fullmatch("[-._~A-Za-z0-9]*", value),
)
_WEEKDAYS = ("W0", "W1", "W2", "W3", "W4", "W5", "W6")
WHEN = one_of("S, M, H, midnight, W0-W6, never", "S", "M", "H", "midnight", *_WEEKDAYS, "never")


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


LOGGER_TABLES = _must("tables, each below a [[logger]] of its own", _are_tables)
FORWARD_TABLES = _must("tables, each below a [[forward]] of its own", _are_tables)


def networks(value: object) -> object:
    """Check a list of networks; return them as a tuple, IPv4 ones without their form in IPv6."""
    if not isinstance(value, list) or not all(isinstance(network, str) for network in value):
        raise ValueError('must be a list of networks in quotes, such as ["10.0.0.0/8", "::1"]')
    networks, faults = [], []
    for text in value:
        try:
            network = ipaddress.ip_network(text)
            # An IPv4 client is known by its own address, whatever the family of the socket.
            if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_IPV4_MAPPED):
                address = network.network_address.ipv4_mapped
                network = ipaddress.IPv4Network((str(address), network.prefixlen - _IPV4_MAPPED.prefixlen))
            networks.append(network)
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise ValueError(f"{'; '.join(faults)}; write networks such as 10.0.0.0/8, or addresses")
    return tuple(networks)


def host_names(value: object) -> object:
    """Check a list of host names; return it as a tuple."""
    if isinstance(value, list) and all(isinstance(name, str) and _is_host_name(name) for name in value):
        return tuple(value)
    raise ValueError('must be a list of host names in quotes, without port, such as ["logs.example.org"]')


def path(value: object) -> object:
    """Check a path; whether anything is there does not matter."""
    if not is_line(value) or "\t" in str(value):
        rule = "must be a path in quotes, without newline, tab or control character"
        escaped = isinstance(value, str) and _CONTROL.search(value)
        raise ValueError(f"{rule}; in 'single quotes' a backslash is a backslash" if escaped else rule)
    if QUOTED.fullmatch(str(value)):
        raise ValueError(_TWICE)
    if _UNEXPANDED.search(str(value)):
        whole = os.path.expanduser(os.path.expandvars(str(value)))
        example = f" such as {whole}" if not _UNEXPANDED.search(whole) else ""
        raise ValueError(f"must be the whole path{example}: ~ and $NAME mean nothing here")
    return value


def optional_path(value: object) -> object:
    """Check a path; an empty one stands for none."""
    return value if value == "" else path(value)


def unix_path(value: object) -> object:
    """Check the path of a Unix socket; an empty one stands for none."""
    # sockaddr_un has room for 107 bytes and the NUL.
    if len(str(optional_path(value)).encode()) > _UNIX_PATH_BYTES:
        raise ValueError(f"must be a path in quotes, of at most {_UNIX_PATH_BYTES} bytes; empty for none")
    return value


def level(value: object) -> int:
    """Check a level, a name in any case or a number; return the number."""
    if isinstance(value, str) or type(value) is not int or value < 0:
        return levels.from_name(
            value if isinstance(value, str) else "", "a whole number from 0 up, without quotes"
        )
    return value


def file_mode(value: object) -> int:
    """Check the mode of a file, octal digits as text; return the number."""
    if not isinstance(value, str) or not re.fullmatch("0?[67][0-7][0-7]", value):
        raise ValueError('must be octal digits in quotes that let the owner read and write, such as "0640"')
    return int(value, 8)


def text_format(value: object) -> str:
    """Check a text format. Its fields may have any name, as extras may."""
    text = str(LINE(value))
    meant = [
        f"{match[0]}, did you mean %({name})s?"
        for match in _OTHER_STYLES.finditer(text)
        if (name := match[1] or match[2] or match[3]) in _RECORD_ATTRIBUTES
    ]
    if meant:
        raise ValueError(f"must have its fields as %(name)s; it has {' and '.join(meant)}")
    rest = TEXT_FIELD.sub(lambda field: "x" * len(field[0]), text)
    stray = [str(position) for position, character in enumerate(rest, 1) if character == "%"]
    if stray:
        raise ValueError(
            f"has a stray % at position {', '.join(stray[:9])}; write %% for a percent sign, or %(name)s "
            "with a type of diouxXeEfFgGcrsa and numbers up to 1000"
        )
    return text


def without_message(text: str) -> str:
    """Return the remedy for a text format that puts no message into a line; "" if it does."""
    fields = _field_names(text)
    if any(name in _MESSAGE_FIELDS for name in fields):
        return ""
    near = difflib.get_close_matches("message", fields, 1)
    return f"is %({near[0]})s misspelt?" if near else "add it"


def has_time(text: str) -> bool:
    """Tell whether a text format puts the time into a line, as its datefmt says."""
    return "asctime" in _field_names(text)


def _field_names(text: str) -> list[str]:
    return [field["name"] for field in TEXT_FIELD.finditer(text) if field["name"]]


def time_format(value: object) -> object:
    """Check a format of strftime."""
    rule = "must be text in quotes of which strftime makes one line, such as %Y-%m-%d %H:%M:%S"
    if not is_line(value):
        raise ValueError(rule)
    unknown = [
        f"{match[0]}, {_instead_of(match[0])}"
        for match in _STRFTIME_CONVERSION.finditer(str(value))
        if match["not"] is not None
    ]
    if unknown:
        raise ValueError(f"must have conversions of strftime alone; it has {' and '.join(unknown)}")
    if not is_line(time.strftime(str(value), time.gmtime(0))):  # %n makes a newline
        raise ValueError(rule)
    return value


def _instead_of(conversion: str) -> str:
    last = conversion[-1]
    if last in _FRACTION_LETTERS:
        return "did you mean %(msecs)03d in text?"
    for near in (f"%{last}", f"%{last.swapcase()}"):
        if near != "%%" and not _STRFTIME_CONVERSION.sub(lambda match: match["not"] or "", near):
            return f"did you mean {near}?"
    return "write %% for a percent sign"


def file_name(value: object) -> object:
    """Check a path below the directory; {logger} and {client} are filled in for each record."""
    name = str(LINE(value))
    if QUOTED.fullmatch(name):
        raise ValueError(_TWICE)
    if _UNEXPANDED.search(name):
        raise ValueError(
            "must be a name below the directory, in which ~ and $NAME mean nothing; "
            "for another place set [files] directory"
        )
    end = name.rpartition("}")[2]
    longest = _FIELD.sub(lambda field: "x" * _FIELD_BYTES[field[0]], name)
    sizes = [len(part.encode()) for part in longest.split("/")]
    like_a_backup = BACKUP.search(name) or (0 < len(end) < len(name) and _BACKUP_END.fullmatch(end))
    is_overflow = name.partition("/")[0] == OVERFLOW_FILE
    outside = re.search("//|/[.]", f"/{name}/")
    too_long = max(sizes) > _PART_BYTES or sum(sizes) > _PATH_BYTES
    faults = {
        "must have no braces but {logger} and {client}": "{" in longest or "}" in longest,
        "must have no tab": "\t" in name,
        "must lie below the directory; no part may be empty or begin with a dot": outside,
        "must end in fixed text; add .log": not end,
        "must not end as backups do, which get deleted; add .log": like_a_backup,
        f"must have at most {_PART_BYTES} bytes a part, {_PATH_BYTES} in all, with full fields": too_long,
        f"must not be {OVERFLOW_FILE}, kept for names beyond max_files": is_overflow,
    }
    if any(faults.values()):
        raise ValueError("; ".join(rule for rule, broken in faults.items() if broken))
    return name


def rule_file(value: object) -> object:
    """Check the file of a rule; "": none."""
    if isinstance(value, str) and _FIELD.search(value):
        raise ValueError("must be fixed text; only [files] name has the fields {logger} and {client}")
    return value if value == "" else file_name(value)
