"""The objects of well-known classes, by their names: what `str()` shows of them, or what they hold.

Contract: each function gets an object and its arguments, scalars among them as such, and returns a value, or
raises TypeError, ValueError, LookupError or ArithmeticError where these are not as that class has them.
Nothing is looked up on a pickle's behalf.
"""

from __future__ import annotations

import ntpath
import posixpath
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from types import NoneType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlunsplit

from collector.pickles import arrays, moments
from collector.pickles.placeholder import Placeholder, Shape, Text, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    Args = tuple[Any, ...]

MASK = Text("**********")

_MAX_TEXT = 200  # of an address
_MAX_PATH = 4096  # PATH_MAX of Linux
_MAX_UUID = 2**128
_MAX_PAIRS = 1000
_MAX_STRUCT = 100
_MAX_URL = 10_000  # characters behind the question mark
_CREDENTIALS = ("authorization", "proxy-authorization")


def _set(value: Placeholder, args: Args) -> Shape:
    """Return a set, which is made empty and filled, or of one list."""
    items: Any = value.items if value.items is not None else args[0] if args else []
    if type(items) not in (list, tuple):
        raise TypeError
    frozen = value.name == "frozenset"
    if not items:
        return Shape("frozenset(" if frozen else "set(", (), ")")
    return Shape("frozenset({", items, "})") if frozen else Shape("{", items, "}")


def _deque(value: Placeholder, args: Args) -> Shape:
    """Return a deque, which is made of nothing and a limit, and filled; Python 2 makes it of a list."""
    made_of, limit = (*args, (), None)[:2] if len(args) < 2 else args  # noqa: PLR2004 - both
    if len(args) == 1:
        limit = None
    items = value.items if value.items is not None else made_of
    if type(items) not in (list, tuple) or type(limit) not in (int, type(None)):
        raise TypeError
    return Shape("deque([", items, "])" if limit is None else f"], maxlen={limit})")


def _dict(value: Placeholder, args: Args) -> dict[Any, object]:
    """Return a dict of a class that makes it of another, or fills it."""
    if type(value.items) is dict:
        return value.items
    match value.state, args:
        case {"data": dict(data)}, _:  # UserDict
            return data
        case _, (*_, dict(data)):
            return data
        case None, () | (Placeholder(args=None) | None,):  # defaultdict(list)
            return {}
    raise TypeError


def _pairs(_: Placeholder, args: Args) -> object:
    """Return what may have several values a key: as a dict where it does not."""
    (pairs,) = args
    if type(pairs) is not list or len(pairs) > _MAX_PAIRS:
        raise TypeError
    keys = [key.args[0] if isinstance(key, Placeholder) and key.args else key for key, _ in pairs]
    if all(type(key) is str for key in keys) and len(set(keys)) == len(keys):
        return {key: pair[1] for key, pair in zip(keys, pairs, strict=True)}
    return pairs


def _case_insensitive(value: Placeholder, _: Args) -> dict[str, object]:
    """Return what requests keeps as keys and values, by their keys in small letters."""
    match value.state:
        case {"_store": dict(store)} if len(store) <= _MAX_PAIRS:
            found = {key: each for key, each in store.values() if isinstance(key, str)}
            if len(found) == len(store):
                return found
    raise TypeError


def _headers(value: Placeholder, _: Args) -> object:
    """Return headers of httpx, which masks credentials; all of them are masked where they are odd."""
    match value.state:
        case {"_list": list(lines)} if len(lines) <= _MAX_PAIRS:
            with suppress(LookupError, TypeError, ValueError):
                pairs = [(_decoded(line[-2]), _decoded(line[-1])) for line in lines]
                pairs = [(name, "[secure]" if name.lower() in _CREDENTIALS else text) for name, text in pairs]
                if len(found := dict(pairs)) == len(pairs):
                    return Shape("Headers({", found, "})")
                return Shape("Headers([", pairs, "])")
    return MASK


def _decoded(data: object) -> str:
    if not isinstance(data, bytes):
        raise TypeError
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _data(value: Placeholder, _: Args) -> object:
    match value.state:
        case {"data": list() | str() as data}:
            return data
    raise TypeError


def _struct_sequence(value: Placeholder, args: Args) -> Shape:
    """Return a tuple of the system's, of numbers and texts; the names of its fields are in no pickle."""
    if len(args) == 2 and isinstance(args[0], tuple) and isinstance(args[1], dict):  # noqa: PLR2004 - as they are pickled
        args = args[0]
    if len(args) > _MAX_STRUCT or not all(isinstance(each, (int, float, str)) for each in args):
        raise TypeError
    return Shape(f"{value.name.removeprefix('_make_')}(", args, ")")


def _range(value: Placeholder, args: Args) -> Text:
    start, stop, step = map(int, args)
    return Text(f"{value.name}({start}, {stop}{'' if step == 1 else f', {step}'})")


def _fraction(_: Placeholder, args: Args) -> Text:
    if len(args) == 1 and type(args[0]) is str:
        return Text(args[0])
    numerator, denominator = map(int, args)
    return Text(f"{numerator}" if denominator == 1 else f"{numerator}/{denominator}")


def _ip(value: Placeholder, args: Args) -> Text:
    """Return an address, a network or an interface: pickled as text or a number, with a length behind it."""
    if len(args) == 1 and type(args[0]) is tuple:
        (args,) = args
    address, *length = args
    if type(address) is int:
        kind = IPv4Address if "v4" in value.name else IPv6Address
        address = str(kind(address))
    if type(address) is not str or len(address) > _MAX_TEXT or not address.isprintable():
        raise TypeError
    return Text("/".join([address, *map(str, map(int, length))]))


def _uuid(value: Placeholder, args: Args) -> Text:
    match value.state, args:
        case {"int": int(number)}, _ if 0 <= number < _MAX_UUID:
            digits = f"{number:032x}"
        case _, (bytes() | str() as data, *_):
            digits = raw_bytes(data, 16).hex()
        case _:
            raise TypeError
    return Text("-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))


def _object_id(value: Placeholder, args: Args) -> Text:
    match value.state:
        case {"_ObjectId__id": state}:
            pass
        case None:
            (state,) = args
        case state:
            pass
    return Text(raw_bytes(state, 12).hex())


def _decimal128(value: Placeholder, _: Args) -> Text:
    """Return a Decimal128 of MongoDB: two words that have sign, exponent and digits."""
    if type(value.state) is not tuple:
        raise TypeError
    high, low = map(int, value.state)
    if high >> 61 & 3 == 3:  # noqa: PLR2004 - infinities, NaN, and what has no digits
        special = {0x7800000000000000: "Infinity", 0xF800000000000000: "-Infinity", 0x7C00000000000000: "NaN"}
        return Text(special[high])
    digits = (high & (1 << 49) - 1) << 64 | low
    exponent = (high >> 49 & 0x3FFF) - 6176
    return Text(str(Decimal((high >> 63, tuple(map(int, str(digits))), exponent))))


def _name(args: Args) -> Text:
    if type(args[0]) is not str:
        raise TypeError
    return Text(args[0])


def _parts(args: Args) -> Args:
    if not all(isinstance(part, str) for part in args) or sum(map(len, args)) > _MAX_PATH:
        raise TypeError
    return args


def _posix_path(_: Placeholder, args: Args) -> Text:
    """Return a path as pathlib spells it; the real one would keep its parts for ever."""
    joined = posixpath.join("", *_parts(args))
    root = joined[: len(joined) - len(joined.lstrip("/"))]
    names = [name for name in joined.split("/") if name not in ("", ".")]
    return Text(("//" if root == "//" else root[:1]) + "/".join(names) or ".")


def _windows_path(_: Placeholder, args: Args) -> Text:
    joined = ntpath.join("", *_parts(args)).replace("/", "\\")
    drive, rest = ntpath.splitdrive(joined)
    # A share has a root in any case, but only a whole one: `\\host\share`, or `\\?\UNC\host\share`.
    match drive.split("\\"):
        case ["", "", host, share] if share and host not in ("", "?", "."):
            root = "\\"
        case ["", "", _, _, _, share] if share:
            root = "\\"
        case _:
            root = "\\" if rest.startswith("\\") else ""
    names = [name for name in rest.split("\\") if name not in ("", ".")]
    return Text(drive + root + "\\".join(names) or ".")


def _url(value: Placeholder, args: Args) -> Text:
    """Return a URL of yarl, httpx, starlette or pydantic."""
    match value.state, args:
        case ((split,), _) | ({"_val": split}, _):
            scheme, host, path, query, fragment = _tuple_of(split)
            return _joined(scheme, host, path, query, fragment)
        case ({"_uri_reference": split}, _):
            scheme, user, host, port, path, query, fragment = _tuple_of(split)
            # What a sender says is text may be a list that takes gigabytes to print.
            if type(user) is not str or type(host) is not str or type(port) not in (int, NoneType):
                raise TypeError
            name = f"[{host}]" if ":" in host else host
            netloc = f"{user}@{name}" if user else name
            return _joined(
                scheme, netloc if port is None else f"{netloc}:{port}", path, query or "", fragment or ""
            )
        case ({"_url": str(url)}, _) | ({"_url": Placeholder(args=(str(url),))}, _) | (_, (str(url),)):
            return Text(url)
    raise TypeError


def _database_url(_: Placeholder, args: Args) -> Text:
    """Return a URL of SQLAlchemy, whose `str()` masks the password; all of it is masked where it is odd."""
    parts = args[0] if len(args) == 1 else args
    match parts:
        case (
            str(driver),
            str() | None as user,
            password,
            str() | None as host,
            int() | None as port,
            str() | None as database,
            dict(query) | Placeholder(args=(dict(query),)),
        ) if len(query) <= _MAX_PAIRS:
            secret = "" if password is None else ":***"
            who = "" if user is None else f"{quote(user, safe=' +')}{secret}@"
            where = f"[{host}]" if host and ":" in host else host or ""
            what = "" if database is None else f"/{database}"
            pairs = [(name, each) for name in query for each in _as_tuple(query[name])]
            texts = [text for pair in pairs for text in pair if isinstance(text, str)]
            if len(texts) == 2 * len(pairs) and sum(map(len, texts)) <= _MAX_URL:
                asked = "&".join(f"{quote_plus(name)}={quote_plus(each)}" for name, each in sorted(pairs))
                at = "" if port is None else f":{port}"
                return Text(f"{driver}://{who}{where}{at}{what}{asked and '?'}{asked}")
    return MASK


def _as_tuple(value: object) -> Args:
    return value[:_MAX_PAIRS] if isinstance(value, tuple) else (value,)


def _tuple_of(value: object) -> Args:
    """Return what a tuple holds, or one of a subclass."""
    if isinstance(value, Placeholder):
        args = value.args or ()
        value = args[0] if len(args) == 1 else args
    if not isinstance(value, tuple):
        raise TypeError
    return value


def _arrow(value: Placeholder, _: Args) -> object:
    match value.state:
        case {"_datetime": datetime() as moment}:
            return moment
        case {"_datetime": Placeholder(args=tuple(args))}:
            return moments.of_class("datetime", args)
    raise TypeError


def _joined(*parts: object) -> Text:
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise TypeError
    return Text(urlunsplit(texts))


KNOWN: dict[tuple[str, str], Callable[[Placeholder, Args], object]] = {
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _set,
    ("builtins", "range"): _range,
    ("builtins", "xrange"): _range,
    ("collections", "deque"): _deque,
    ("collections", "Counter"): _dict,
    ("collections", "defaultdict"): _dict,
    ("collections", "OrderedDict"): _dict,
    ("collections", "UserDict"): _dict,
    ("UserDict", "UserDict"): _dict,
    ("UserDict", "IterableUserDict"): _dict,
    ("collections", "UserList"): _data,
    ("UserList", "UserList"): _data,
    ("collections", "UserString"): _data,
    ("UserString", "UserString"): _data,
    ("frozendict", "frozendict"): _dict,
    ("multidict", "istr"): lambda _, args: args[0],
    ("multidict", "MultiDict"): _pairs,
    ("multidict", "CIMultiDict"): _pairs,
    ("immutabledict", "immutabledict"): _dict,
    ("sortedcontainers", "SortedDict"): _dict,
    ("bidict", "_from_other"): _dict,
    ("requests", "CaseInsensitiveDict"): _case_insensitive,
    ("httpx", "Headers"): _headers,
    ("time", "struct_time"): _struct_sequence,
    ("os", "stat_result"): _struct_sequence,
    ("os", "statvfs_result"): _struct_sequence,
    ("os", "_make_stat_result"): _struct_sequence,  # of Python 2
    ("os", "_make_statvfs_result"): _struct_sequence,
    ("os", "terminal_size"): _struct_sequence,
    ("posix", "times_result"): _struct_sequence,
    ("posix", "uname_result"): _struct_sequence,
    ("platform", "uname_result"): _struct_sequence,
    ("pwd", "struct_passwd"): _struct_sequence,
    ("resource", "struct_rusage"): _struct_sequence,
    ("fractions", "Fraction"): _fraction,
    ("ipaddress", "IPv4Address"): _ip,
    ("ipaddress", "IPv6Address"): _ip,
    ("ipaddress", "IPv4Network"): _ip,
    ("ipaddress", "IPv6Network"): _ip,
    ("ipaddress", "IPv4Interface"): _ip,
    ("ipaddress", "IPv6Interface"): _ip,
    ("uuid", "UUID"): _uuid,
    ("asyncpg", "UUID"): _uuid,
    ("bson", "ObjectId"): _object_id,
    ("bson", "Decimal128"): _decimal128,
    ("bson", "Binary"): lambda _, args: args[0],
    ("pathlib", "PosixPath"): _posix_path,
    ("pathlib", "PurePosixPath"): _posix_path,
    ("pathlib", "WindowsPath"): _windows_path,
    ("pathlib", "PureWindowsPath"): _windows_path,
    ("yarl", "URL"): _url,
    ("httpx", "URL"): _url,
    ("starlette", "URL"): _url,
    ("sqlalchemy", "URL"): _database_url,
    ("zoneinfo", "_unpickle"): lambda _, args: _name(args),
    ("backports", "_unpickle"): lambda _, args: _name(args),
    ("pytz", "_p"): lambda _, args: _name(args),
    ("pytz", "_UTC"): lambda *_: Text("UTC"),
    ("numpy", "scalar"): lambda _, args: arrays.scalar(args),
    ("numpy", "_reconstruct"): lambda value, _: arrays.array(value),
    ("numpy", "_frombuffer"): lambda _, args: arrays.array_of_buffer(args),
    ("pandas", "_unpickle_timestamp"): lambda _, args: moments.timestamp(args),
    ("pandas", "Timestamp"): lambda _, args: moments.timestamp(args),
    ("pandas", "_timedelta_unpickle"): lambda _, args: moments.time_difference(args),
    ("pandas", "Timedelta"): lambda _, args: moments.time_difference(args),
    ("pandas", "_nat_unpickle"): lambda *_: Text("NaT"),
    ("pandas", "__nat_unpickle"): lambda *_: Text("NaT"),
    ("arrow", "Arrow"): _arrow,
    ("pendulum", "Duration"): lambda _, args: moments.in_words(args),
}


def known(value: Placeholder) -> Callable[[Placeholder, Args], object] | None:
    """Return the function for the class of an object, None if it is not well known."""
    root, name = value.known_as
    if root in ("pydantic", "pydantic_core") and name.endswith(("Url", "Dsn")):
        return _url
    return KNOWN.get((root, name))


CONSTANTS: dict[tuple[str, str], object] = {
    ("builtins", "Ellipsis"): Text("Ellipsis"),
    ("builtins", "NotImplemented"): Text("NotImplemented"),
    ("pandas", "NA"): Text("<NA>"),
}
