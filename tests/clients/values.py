"""Prints pickles of what libraries make, a line of JSON each: name, protocol, payload, and what it is to say.

`text` is what `str()` says here, unless something else is given: arrays are lists, dicts of any class are
dicts, secrets stay masked. A library that is not there is passed over; what cannot be made or pickled is told
on stderr. Runs on every Python from 2.7 on.
"""

# mypy: ignore-errors
from __future__ import print_function

import base64
import datetime
import json
import pickle
import sys
from importlib import import_module

MOMENT = (2024, 2, 29, 12, 34, 56, 789012)
NAIVE = datetime.datetime(*MOMENT)
NOTHING = object()
GRAU = b"gr\xc3\xbc".decode("utf-8")
cases = []


def case(name, make, text=NOTHING, json=NOTHING):
    cases.append((name, make, text, json))


def m(name):
    return import_module(name)


def in_unicode(text):
    return text if sys.version_info[0] > 2 else text.decode()


# --- numpy ---
def digits(kind, number):
    """Return the digits of str(), without the exponent that some versions have and others have not."""
    return lambda: repr(float(str(getattr(m("numpy"), kind)(number))))


for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
    case("numpy " + kind, lambda kind=kind: getattr(m("numpy"), kind)(100), json=100)
case("numpy int64 min", lambda: m("numpy").int64(-(2**63)), json=-(2**63))
for kind in ("float16", "float32", "float64"):
    for number in (0.1, 0.25, -3.0, 1e-5, 0.0001, 1e7, 65504.0, 1 / 3.0):
        if kind != "float16" or 1e-4 <= abs(number) < 70000:
            case(
                "numpy %s %r" % (kind, number),
                lambda kind=kind, n=number: getattr(m("numpy"), kind)(n),
                digits(kind, number),
            )
for number in (1e15, 1e16, 1e22, 3.4e38, 1e-44):
    case("numpy float32 %r" % number, lambda n=number: m("numpy").float32(n), digits("float32", number))
case("numpy float64 nan", lambda: m("numpy").float64("nan"), json="nan")
case("numpy float32 inf", lambda: m("numpy").float32("-inf"), json="-inf")
case("numpy longdouble", lambda: m("numpy").longdouble(0.25), json=0.25)
case("numpy longdouble third", lambda: m("numpy").longdouble(1) / 3)
case("numpy longdouble tenth", lambda: m("numpy").longdouble("0.1"))
case("numpy complex64", lambda: m("numpy").complex64(0.1 + 2j))
case("numpy complex128", lambda: m("numpy").complex128(1 + 2j))
case("numpy clongdouble", lambda: m("numpy").clongdouble(1 + 2j))
case("numpy bool", lambda: m("numpy").bool_(True), json=True)
case("numpy bool false", lambda: m("numpy").bool_(False), json=False)
case("numpy str", lambda: m("numpy").str_("ab"), json="ab")
case("numpy unicode", lambda: m("numpy").array([GRAU])[0], GRAU, GRAU)
case(
    "numpy bytes",
    lambda: m("numpy").bytes_(b"ab\xff\x00c"),
    text=NOTHING if sys.version_info[0] > 2 else None,
)
for moment in ("2024", "2024-02", "2024-02-29", "2024-02-29T12", "2024-02-29T12:34", "2024-02-29T12:34:56"):
    case("numpy datetime64 " + moment, lambda moment=moment: m("numpy").datetime64(moment), json=moment)
for unit in ("ms", "us", "ns", "ps"):
    case(
        "numpy datetime64 " + unit,
        lambda unit=unit: m("numpy").datetime64("1969-02-28T12:34:56.789", unit),
    )
for moment in ("-0044-03-15", "99999-02-01", "0001-01-01T00", "-8000-01-01T12:34:56.789"):
    case("numpy datetime64 " + moment, lambda moment=moment: m("numpy").datetime64(moment))
case("numpy datetime64 week", lambda: m("numpy").datetime64("2024-02-29", "W"))
case(
    "numpy datetime64 25s",
    lambda: m("numpy").datetime64(7, (25, "s")) if 0 else m("numpy").array([7], "M8[25s]")[0],
)
case("numpy datetime64 NaT", lambda: m("numpy").datetime64("NaT"), json="NaT")
for unit in ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"):
    case("numpy timedelta64 " + unit, lambda unit=unit: m("numpy").timedelta64(-5, unit))
case("numpy datetime64 big endian", lambda: m("numpy").array(["2024-02-29"], ">M8[D]")[0])


def array(name, make):
    def text():
        values = make().tolist()
        return str(values)

    case("array " + name, make, text)


array("of integers", lambda: m("numpy").array([[1, 2, 3], [4, 5, 6]]))
array("in columns", lambda: m("numpy").array([[1, 2, 3], [4, 5, 6]], order="F"))
array("of three dimensions", lambda: m("numpy").arange(24).reshape(2, 3, 4))
array(
    "of three dimensions in columns",
    lambda: m("numpy").asfortranarray(m("numpy").arange(24).reshape(2, 3, 4)),
)
array("turned", lambda: m("numpy").arange(6).reshape(2, 3).T)
array("of floats", lambda: m("numpy").array([0.5, -0.25, 1e20]))
array("of bools", lambda: m("numpy").array([True, False]))
array("big endian", lambda: m("numpy").array([1, 256], ">i4"))
array("of nothing", lambda: m("numpy").array([], "f4"))
array("of no columns", lambda: m("numpy").zeros((2, 0)))
array("of no rows", lambda: m("numpy").zeros((0, 2)))
array("of one", lambda: m("numpy").array(5))
array("of a hundred", lambda: m("numpy").arange(100).reshape(10, 10))
array("of objects", lambda: m("numpy").array([1, None, [2]], dtype=object))
array("matrix", lambda: m("numpy").matrix([[1, 2]]))
case(
    "array of texts",
    lambda: m("numpy").array([in_unicode("ab"), in_unicode("c")]),
    "['ab', 'c']",
    ["ab", "c"],
)
case("array of days", lambda: m("numpy").array(["2024-02-29", "NaT"], "M8[D]"), "[2024-02-29, NaT]")
case("array of float32", lambda: m("numpy").array([0.1], "f4"), "[0.1]", [0.1])
case("numpy in a dict", lambda: {"loss": m("numpy").float64(0.125)}, "{'loss': 0.125}", {"loss": 0.125})
case("numpy as a key", lambda: {m("numpy").int64(5): 1}, "{5: 1}", {"5": 1})

# --- pandas ---
for moment in (
    "2024-02-29 12:34:56",
    "2024-02-29 12:34:56.789",
    "2024-02-29 12:34:56.123456789",
    "1700-01-01",
):
    case("pandas " + moment, lambda moment=moment: m("pandas").Timestamp(moment))
    case("pandas UTC " + moment, lambda moment=moment: m("pandas").Timestamp(moment, tz="UTC"))
case("pandas fixed", lambda: m("pandas").Timestamp("2024-02-29 12:34:56+05:30"))
case(
    "pandas pytz", lambda: m("pandas").Timestamp("2024-02-29 12:34:56", tz=m("pytz").timezone("Europe/Paris"))
)
case(
    "pandas zoneinfo",
    lambda: m("pandas").Timestamp("2024-02-29 12:34:56", tz=m("zoneinfo").ZoneInfo("Europe/Paris")),
    "2024-02-29 11:34:56+00:00 Europe/Paris",
    "2024-02-29T11:34:56Z[Europe/Paris]",
)
for difference in ("1 days 02:03:04.5", "-1 days", "-1 days +23:59:59.999999", "0 days", "5us", "400 days"):
    case("pandas Timedelta " + difference, lambda difference=difference: m("pandas").Timedelta(difference))
case("pandas NaT", lambda: m("pandas").NaT, json="NaT")
case("pandas NA", lambda: m("pandas").NA)
case("pandas in a list", lambda: [m("pandas").Timestamp("2024-02-29")], "[2024-02-29 00:00:00]")


# --- zones ---
def zone(name, make, text=NOTHING, json=NOTHING, moment=NAIVE):
    case("zone " + name, lambda: moment.replace(tzinfo=make()), text, json)


NAMED = ("2024-02-29 12:34:56.789012 Europe/Paris", "2024-02-29T12:34:56.789012[Europe/Paris]")
zone("zoneinfo Paris", lambda: m("zoneinfo").ZoneInfo("Europe/Paris"), *NAMED)
for key in ("UTC", "Etc/UTC", "Etc/GMT+5", "Etc/GMT-14", "GMT"):
    zone("zoneinfo " + key, lambda key=key: m("zoneinfo").ZoneInfo(key))
zone("zoneinfo no cache", lambda: m("zoneinfo").ZoneInfo.no_cache("Europe/Paris"), *NAMED)
case("zone alone", lambda: m("zoneinfo").ZoneInfo("Europe/Paris"), json="Europe/Paris")
case("zone of pytz alone", lambda: m("pytz").timezone("Europe/Paris"), json="Europe/Paris")
zone("pytz UTC", lambda: m("pytz").utc, json="2024-02-29T12:34:56.789012+00:00")
zone("pytz fixed", lambda: m("pytz").FixedOffset(-90))
zone("pytz static", lambda: m("pytz").timezone("Etc/GMT+5"))
zone("pytz not localized", lambda: m("pytz").timezone("Europe/Paris"))
case("zone pytz localized", lambda: m("pytz").timezone("America/St_Johns").localize(NAIVE))
case("zone pytz summer", lambda: m("pytz").timezone("Europe/Paris").localize(datetime.datetime(2024, 7, 1)))
zone("dateutil UTC", lambda: m("dateutil.tz").tzutc())
zone("dateutil offset", lambda: m("dateutil.tz").tzoffset("X", -12600))
zone("dateutil offset without a name", lambda: m("dateutil.tz").tzoffset(None, 7200))
for month in (1, 3, 7, 10, 12):
    zone(
        "dateutil Paris %d" % month,
        lambda: m("dateutil.tz").gettz("Europe/Paris"),
        moment=datetime.datetime(2024, month, 5),
    )
for at in ((2024, 3, 31, 1, 59), (2024, 3, 31, 3, 0), (2024, 10, 27, 1, 59), (2024, 10, 27, 3, 0)):
    zone(
        "dateutil Paris %d %d" % at[1:3],
        lambda: m("dateutil.tz").gettz("Europe/Paris"),
        moment=datetime.datetime(*at),
    )
zone("dateutil local", lambda: m("dateutil.tz").tzlocal())
zone("bson UTC", lambda: m("bson.tz_util").utc)
zone("bson fixed", lambda: m("bson.tz_util").FixedOffset(90, "X"))
zone("django fixed", lambda: m("django.utils.timezone").get_fixed_timezone(90))
zone("django UTC", lambda: m("django.utils.timezone").utc)
for text in ("2024-02-29T12:34:56+02:00", "2024-02-29T12:34:56-00:30", "2024-02-29T12:34:56Z"):
    case("zone ciso8601 " + text, lambda text=text: m("ciso8601").parse_datetime(text))
    case("zone aniso8601 " + text, lambda text=text: m("aniso8601").parse_datetime(text))
    case("zone pydantic " + text, lambda text=text: parsed("datetime", text))
    case("zone of a time of pydantic " + text, lambda text=text: parsed("time", text[11:]))
case(
    "zone of a time",
    lambda: datetime.time(1, 2, 3, tzinfo=m("zoneinfo").ZoneInfo("Europe/Paris")),
    json="01:02:03",
)
case("zone of a time fixed", lambda: datetime.time(1, 2, 3, tzinfo=m("pytz").FixedOffset(90)))


def parsed(kind, value):
    """Return what pydantic reads as a value of this *kind*."""
    return m("pydantic").TypeAdapter(getattr(datetime, kind)).validate_python(value)


def pendulum(*args, **how):
    moment = m("pendulum").datetime(*args, **how)
    return str(moment).replace("T", " ")


for tz in ("UTC", 2, "Etc/GMT+3"):
    case(
        "pendulum %s" % tz,
        lambda tz=tz: m("pendulum").datetime(*MOMENT, tz=tz),
        lambda tz=tz: pendulum(*MOMENT, tz=tz),
    )
case(
    "pendulum Paris",
    lambda: m("pendulum").datetime(*MOMENT, tz="Europe/Paris"),
    lambda: NAMED[0] if m("pendulum").__version__ >= "3" else pendulum(*MOMENT, tz="Europe/Paris"),
)
case("arrow", lambda: m("arrow").get("2024-02-29T12:34:56+02:00"), "2024-02-29 12:34:56+02:00")
case(
    "arrow in Paris",
    lambda: m("arrow").get(NAIVE, "Europe/Paris"),
    None,
    "2024-02-29T12:34:56.789012[Europe/Paris]",
)
case("pendulum date", lambda: m("pendulum").date(2024, 2, 29), "2024-02-29", "2024-02-29")
case("pendulum time", lambda: m("pendulum").time(1, 2, 3), "01:02:03", "01:02:03")
for how in ({"days": 3}, {"days": 8, "hours": 1}, {"seconds": 90}, {"hours": -26}, {}):
    case("pendulum duration %s" % how, lambda how=how: m("pendulum").duration(**how))
case("pendulum duration of years", lambda: m("pendulum").duration(years=1), "52 weeks 1 day")

# --- one obvious text ---
case("ObjectId", lambda: m("bson").ObjectId("507f1f77bcf86cd799439011"), json="507f1f77bcf86cd799439011")
for number in ("1.50", "-0.001", "0E+3", "123456789012345678901234567890", "NaN", "Infinity", "-Infinity"):
    case("Decimal128 " + number, lambda number=number: m("bson.decimal128").Decimal128(number))
case("bson Int64", lambda: m("bson.int64").Int64(5), json=5)
case(
    "bson Binary",
    lambda: m("bson.binary").Binary(b"ab", 5),
    text=NOTHING if sys.version_info[0] > 2 else "ab",
)
case("UUID", lambda: m("uuid").UUID(int=7), json="00000000-0000-0000-0000-000000000007")
case("UUID in a list", lambda: [m("uuid").UUID(int=7)], "[00000000-0000-0000-0000-000000000007]")
for address in ("192.0.2.1", "2001:db8::1", "::1", "0.0.0.0"):
    case(
        "address " + address,
        lambda address=address: m("ipaddress").ip_address(in_unicode(address)),
        json=address,
    )
case("address of IPv4 in IPv6", lambda: m("ipaddress").ip_address(in_unicode("::ffff:192.0.2.1")), None)
for network in ("192.0.2.0/24", "2001:db8::/32"):
    case(
        "network " + network,
        lambda network=network: m("ipaddress").ip_network(in_unicode(network)),
        json=network,
    )
    case(
        "interface " + network,
        lambda network=network: m("ipaddress").ip_interface(in_unicode(network)),
        json=network,
    )
for path in ("/a//b/./c", "a/b", ".", "/", "//h/s", "///x", "a/../b", ""):
    case("posix " + path, lambda path=path: m("pathlib").PurePosixPath(path))
for path in ("C:/a/b", r"C:\Users\ann", "c:x", r"\\h\s\x", "a/b", "C:", "C:/", ".", "/a", "//h/s"):
    case("windows " + path, lambda path=path: m("pathlib").PureWindowsPath(path))
case("path", lambda: m("pathlib").Path("/srv/x"), json="/srv/x")
case("Fraction", lambda: m("fractions").Fraction(1, 3))
case("Fraction of one", lambda: m("fractions").Fraction(4, 2))
for url in ("https://u:p@example.org:8/a?b=1#c", "https://example.org", "http://[::1]:8080/x?y"):
    case("yarl " + url, lambda url=url: m("yarl").URL(url))
    case("httpx " + url, lambda url=url: m("httpx").URL(url))
    case("starlette " + url, lambda url=url: m("starlette.datastructures").URL(url))


def pydantic_url(kind, url):
    pydantic = m("pydantic")
    return pydantic.create_model("Site", url=(getattr(pydantic, kind), Ellipsis))(url=url).url


case("pydantic URL", lambda: pydantic_url("HttpUrl", "http://a.example.org/b"))
case("pydantic URL of PostgreSQL", lambda: pydantic_url("PostgresDsn", "postgresql://u:p@a.example.org/b"))
case("pydantic URL of MongoDB", lambda: pydantic_url("MongoDsn", "mongodb://u:p@a.example.org:1/b"))
case("Markup", lambda: m("markupsafe").Markup("<b>x</b>"), json="<b>x</b>")
case("Django SafeText", lambda: m("django.utils.safestring").mark_safe("<b>x</b>"), json="<b>x</b>")
case("istr", lambda: m("multidict").istr("Host"), json="Host")
case("istr as a key", lambda: {m("multidict").istr("Host"): 1}, "{'Host': 1}", {"Host": 1})
case("HTTPStatus", lambda: m("http").HTTPStatus(404), "404", 404)
case("HTTPStatus as a key", lambda: {m("http").HTTPStatus(404): 1}, "{404: 1}", {"404": 1})
case("SafeUUID", lambda: m("uuid").SafeUUID.safe, "0", 0)

# --- containers ---
collections = m("collections")
case("Counter", lambda: collections.Counter("a"), "{'a': 1}", {"a": 1})
case("Counter of nothing", lambda: collections.Counter(), "{}", {})
case("defaultdict", lambda: collections.defaultdict(list, {"a": [1]}), "{'a': [1]}", {"a": [1]})
case("defaultdict of nothing", lambda: collections.defaultdict(int), "{}", {})
case("defaultdict without a factory", lambda: collections.defaultdict(None, {"a": 1}), "{'a': 1}", {"a": 1})
case("OrderedDict", lambda: collections.OrderedDict([("a", 1)]), "{'a': 1}", {"a": 1})
case("deque", lambda: collections.deque([1, 2]), json=[1, 2])
case("deque with a limit", lambda: collections.deque([1, 2], 5), json=[1, 2])
case("deque of nothing", lambda: collections.deque(), json=[])
case("set", lambda: {1}, "{1}", [1])
case("set of nothing", lambda: set(), "set()", [])
case("frozenset", lambda: frozenset([1]), "frozenset({1})", [1])
case("frozenset of nothing", lambda: frozenset(), "frozenset()", [])
case("UserDict", lambda: collections.UserDict(a=1), json={"a": 1})
case("UserList", lambda: collections.UserList([1]), json=[1])
case("UserString", lambda: collections.UserString("a"), json="a")
case("frozendict", lambda: m("frozendict").frozendict(a=1), "{'a': 1}", {"a": 1})
case("MultiDict", lambda: m("multidict").MultiDict(a=1), "{'a': 1}", {"a": 1})
case(
    "MultiDict of two",
    lambda: m("multidict").MultiDict([("a", 1), ("a", 2)]),
    json=[["a", 1], ["a", 2]],
    text=None,
)
case("CIMultiDict", lambda: m("multidict").CIMultiDict(A=1), "{'A': 1}", {"A": 1})
case("immutabledict", lambda: m("immutabledict").immutabledict(a=1), "{'a': 1}", {"a": 1})
case("SortedDict", lambda: m("sortedcontainers").SortedDict(a=1), "{'a': 1}", {"a": 1})
case("bidict", lambda: m("bidict").bidict(a=1), "{'a': 1}", {"a": 1})
case("CaseInsensitiveDict", lambda: m("requests").structures.CaseInsensitiveDict(A=1), "{'A': 1}", {"A": 1})
case("headers of httpx", lambda: m("httpx").Headers({"Authorization": "hunter2", "A": "b"}))
case("struct_time", lambda: m("time").gmtime(0), None, [1970, 1, 1, 0, 0, 0, 3, 1, 0])
case("stat_result", lambda: m("os").stat_result(range(10)), None, list(range(10)))
case("uname", lambda: m("os").uname(), None, list(m("os").uname()))
case("uname of platform", lambda: m("platform").uname(), None)
case("terminal_size", lambda: m("os").terminal_size((80, 24)), "terminal_size(80, 24)", [80, 24])
numbers = range if sys.version_info[0] > 2 else m("__builtin__").xrange
case("range", lambda: numbers(1, 3))
case("range of steps", lambda: numbers(1, 9, 2), None)

# --- secrets ---
for kind in ("SecretStr", "SecretBytes"):
    case(
        "pydantic " + kind,
        lambda kind=kind: getattr(m("pydantic"), kind)(b"hunter2" if kind == "SecretBytes" else "hunter2"),
        "**********",
    )


def pydantic_key():
    """Return an instance of a class that is no Secret by its name."""
    kind = type("ApiKey", (m("pydantic").SecretStr,), {"__module__": __name__})
    sys.modules[__name__].ApiKey = kind
    return kind("hunter2")


case("subclass of pydantic SecretStr", pydantic_key, "**********")
for url in ("postgresql://u:hunter2@h:5432/db?x=1&y=a&y=b", "sqlite:///x.db", "a+b://us%40er:p%40@[::1]/d b"):
    case("SQLAlchemy " + url, lambda url=url: m("sqlalchemy.engine.url").make_url(url))
case("pydantic Secret", lambda: m("pydantic").Secret[str]("hunter2"), "**********")
case("starlette Secret", lambda: m("starlette.datastructures").Secret("hunter2"), "**********", "**********")


class ApiToken(object):
    def __init__(self, value):
        self.value = value


class DbPassword(ApiToken):
    pass


class CsrfToken(str):
    pass


class APITOKEN(ApiToken):
    pass


case("ApiToken", lambda: ApiToken("hunter2"), "**********", "**********")
case("DbPassword in a list", lambda: [DbPassword("hunter2")], "[**********]", ["**********"])
case("DbPassword as a key", lambda: {DbPassword("hunter2"): 1}, "{**********: 1}", {"**********": 1})
case("APITOKEN", lambda: APITOKEN("hunter2"), "**********", "**********")
case("CsrfToken", lambda: CsrfToken("open"), json="open")


# --- classes of an application ---
class Plain(object):
    def __init__(self):
        self.x, self.y = 1, "a"


class Old:
    def __init__(self):
        self.x = 1


class Point(collections.namedtuple("Point", "x y")):
    pass


class Pair(tuple):
    pass


class Name(str):
    pass


class Named(str):
    def __new__(cls, text):
        made = str.__new__(cls, text)
        made.note = 5
        return made


class Number(int):
    pass


class Ratio(float):
    pass


class Box(dict):
    pass


class Row(list):
    pass


class Slots(object):
    __slots__ = ("x",)

    def __init__(self):
        self.x = 1


class FakeDatetime(datetime.datetime):
    pass


class Moment(datetime.datetime):
    pass


case("an object", Plain, "Plain(x=1, y='a')" if sys.version_info[0] > 2 else None, {"x": 1, "y": "a"})
case("an object of an old class", Old, "Old(x=1)", {"x": 1})
case("an object with slots", Slots, "Slots(x=1)", {"x": 1})
case("a named tuple", lambda: Point(1, 2), "Point(1, 2)", [1, 2])
case("a tuple", lambda: Pair((1, 2)), "Pair(1, 2)", [1, 2])
case("a tuple of nothing", lambda: Pair(()), "Pair()", [])
case("a str", lambda: Name("ab"), json="ab")
case("a str with attributes", lambda: Named("ab"), json="ab")
case("a str as a key", lambda: {Name("ab"): Name("c")}, "{'ab': 'c'}", {"ab": "c"})
case("an int", lambda: Number(5), json=5)
case("an int as a key", lambda: {Number(5): Ratio(0.5)}, "{5: 0.5}", {"5": 0.5})
case("a float", lambda: Ratio(0.5), json=0.5)
case("a dict", lambda: Box(a=1), "{'a': 1}", {"a": 1})
case("a list", lambda: Row([1]), "[1]", [1])
case("a datetime of any name", lambda: Moment(*MOMENT), json="2024-02-29T12:34:56.789012")
case("a datetime of any name in a list", lambda: [Moment(*MOMENT)], "[2024-02-29 12:34:56.789012]")
case("a datetime", lambda: FakeDatetime(*MOMENT), json="2024-02-29T12:34:56.789012")
try:
    import enum

    class Color(enum.Enum):
        RED = 1

    class Level(enum.IntEnum):
        HIGH = 50

    class Text(str, enum.Enum):
        A = "a.b"

    class Many(enum.Enum):
        A = "a"
        B = (1, 2)

    case("an enum", lambda: Color.RED, "1", 1)
    case("an IntEnum", lambda: Level.HIGH, "50", 50)
    case("a str enum", lambda: Text.A, "a.b", "a.b")
    case("an enum of text", lambda: Many.A, "a", "a")
    case("an enum of a tuple", lambda: Many.B, "Many((1, 2))", [1, 2])
    case("enums in containers", lambda: {Text.A: [Level.HIGH]}, "{'a.b': [50]}", {"a.b": [50]})
    if hasattr(enum, "IntFlag") and not (3, 11) <= sys.version_info < (3, 11, 5):

        class Rights(enum.IntFlag):
            R = 4
            W = 2

        class Plainer(enum.Flag):
            R = 4
            W = 2

        case("flags", lambda: Rights.R | Rights.W, "6", 6)
        case("flags that are no int", lambda: Plainer.R | Plainer.W, "6", 6)
except ImportError:
    pass
try:
    import attr

    @attr.s
    class Attrs(object):
        x = attr.ib()
        y = attr.ib()

    case("attrs", lambda: Attrs(1, 2), NOTHING if sys.version_info[0] > 2 else None, {"x": 1, "y": 2})
except ImportError:
    pass
try:
    import dataclasses

    Data = dataclasses.make_dataclass("Data", [("x", int), ("y", list)])
    Data.__module__ = "__main__"
    case("a dataclass", lambda: Data(1, [2]), json={"x": 1, "y": [2]})
    case("a dataclass in a list", lambda: [Data(1, [])], "[Data(x=1, y=[])]")
except ImportError:
    pass
try:
    import pydantic

    Model = pydantic.create_model(
        "Model", x=(int, 1), key=(pydantic.SecretStr, pydantic.SecretStr("hunter2"))
    )
    Model.__module__ = "__main__"

    class Open(pydantic.BaseModel):
        class Config:
            extra = "allow"

    Wider = pydantic.create_model("Wider", __base__=Open, x=(int, 1))
    Wider.__module__ = "__main__"
    case("a pydantic model of extras", lambda: Open(a=1), "Open(a=1)", {"a": 1})
    case("a pydantic model with extras", lambda: Wider(z=2), "Wider(x=1, z=2)", {"x": 1, "z": 2})
    case("a pydantic model", Model, "Model(x=1, key=**********)", {"x": 1, "key": "**********"})
except ImportError:
    pass

for name, make, text, expected in cases:
    try:
        value = make()
    except (ImportError, AttributeError):
        continue
    except Exception as fault:
        print("%s: %r" % (name, fault), file=sys.stderr)
        continue
    if text is NOTHING:
        text = str(value)
    elif callable(text):
        text = text()
    line = {"name": name, "text": text}
    if expected is not NOTHING:
        line["json"] = expected
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            payload = pickle.dumps({"name": "app", "msg": "hello", "x": value}, protocol)
        except Exception as fault:
            print("%s in protocol %d: %r" % (name, protocol, fault), file=sys.stderr)
            continue
        line.update(protocol=protocol, payload=base64.b64encode(payload).decode())
        print(json.dumps(line))
