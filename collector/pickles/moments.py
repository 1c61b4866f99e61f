"""Dates and times of other libraries, and those with a zone: ISO 8601 with the offset, or the zone's name.

Contract: returns a value, or raises TypeError, ValueError, LookupError or ArithmeticError if it is none.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

from collector.pickles.placeholder import Placeholder, Shape, Text, raw_bytes
from collector.pickles.zones import DAY, EPOCH, offset_of, zone_name

# How many of a unit a second has, by pandas' number for it.
_PER_SECOND = {7: 1, 8: 10**3, 9: 10**6, 10: 10**9}
_NANOSECONDS = 10
_PACKED = 10  # bytes of a datetime, and characters of what becomes of them
_PACKED_BY_PYTHON_2 = _PACKED * len(r"\xff")


def packed_date(state: object) -> date:
    """Return the date in the four bytes that `datetime.date` pickles."""
    century, year, month, day = raw_bytes(state, 4)
    return date(century << 8 | year, month, day)


def packed_datetime(state: object) -> datetime:
    """Return the moment in the ten bytes that `datetime.datetime` pickles."""
    century, year, month, day, hour, minute, second, *micro = raw_bytes(state, 10)
    moment = datetime(century << 8 | year, month & 127, day, hour, minute, second)  # noqa: DTZ001 - see zoned()
    return moment.replace(microsecond=int.from_bytes(micro, "big"), fold=month >> 7)


def packed_time(state: object) -> time:
    """Return the time of day in the six bytes that `datetime.time` pickles."""
    hour, minute, second, *micro = raw_bytes(state, 6)
    return time(hour & 127, minute, second, int.from_bytes(micro, "big"), fold=hour >> 7)


def of_class(name: str, args: tuple[object, ...]) -> object:  # noqa: PLR0911 - a case each
    """Return the date or time that a class of this *name* was pickled as; None: it is none.

    Theirs are subclasses of those in `datetime`, and pickle themselves as these or as numbers.
    """
    kind = name.lower()
    match args:
        case (datetime() | time() as moment, zone):
            return zoned(moment, zone)
        case (bytes() | str() as state, *zone) if kind.endswith("datetime"):
            return zoned(packed_datetime(state), *zone)
        case (bytes() | str() as state,) if kind.endswith("date"):
            return packed_date(state)
        case (bytes() | str() as state, *zone) if kind.endswith("time"):
            return zoned(packed_time(state), *zone)
        case (int(year), int(month), int(day), *rest) if kind == "datetime":
            *clock, zone = rest if len(rest) == 5 else [*rest, None]  # noqa: PLR2004 - four of the clock, and the zone
            return zoned(datetime(year, month, day, *clock), zone)  # type: ignore[arg-type] # noqa: DTZ001 - or it raises
        case (int(year), int(month), int(day)) if kind == "date":
            return date(year, month, day)
        case (int(hour), int(minute), int(second), int(micro), zone) if kind == "time":
            return zoned(time(hour, minute, second, micro), zone)
        case (bytes() | str() as state, *zone) if _PACKED <= len(state) <= _PACKED_BY_PYTHON_2:
            # Of any name: no text makes these bytes, and hardly anything else.
            return zoned(packed_datetime(state), *zone)
    return None


def zoned(moment: datetime | time, zone: object = None) -> object:
    """Return *moment* in *zone*, with the text of *zone* behind it where that has no offset and no name.

    None where *zone* is none.
    """
    if zone is None or isinstance(zone, timezone):
        return moment.replace(tzinfo=zone)
    if not isinstance(zone, Placeholder):
        return None
    offset, name = offset_of(zone, moment if isinstance(moment, datetime) else None), zone_name(zone)
    if offset is not None:
        return moment.replace(tzinfo=timezone(offset), fold=0)
    if not name:
        return Shape(f"{moment.isoformat()} ", (zone,), "", as_text=True)
    if isinstance(moment, time):
        return moment  # which has no offset without a date
    return Text(f"{moment} {name}", f"{moment.isoformat()}[{name}]")


def timestamp(args: tuple[object, ...]) -> object:
    """Return a Timestamp of pandas, which is pickled as a number since 1970 in UTC."""
    number, _, zone, reso = args if len(args) == 4 else (*args, _NANOSECONDS)  # noqa: PLR2004 - older ones have no unit
    per_second = _per_second(reso)
    seconds, rest = divmod(number, per_second)  # type: ignore[operator] # as above
    micros, nanos = divmod(rest * 10**9 // per_second, 1000)
    moment = EPOCH + timedelta(seconds=seconds, microseconds=micros)
    text, name = moment, None
    if isinstance(zone, Placeholder):
        offset, name = offset_of(zone, moment, in_utc=True), zone_name(zone)
        if offset is not None:
            zone, name = timezone(offset), None
        elif not name:
            return None
    if isinstance(zone, timezone):
        text = moment.replace(tzinfo=timezone.utc).astimezone(zone)
    elif name:
        text = moment.replace(tzinfo=timezone.utc)
    if not nanos and not name:
        return text
    shown, iso = (_with_nanoseconds(form, nanos) for form in (str(text), text.isoformat()))
    return Text(f"{shown} {name}", f"{iso.removesuffix('+00:00')}Z[{name}]") if name else Text(shown, iso)


def _per_second(reso: object) -> int:
    """Return how many of a unit, which pandas gives a number, are a second. Raises TypeError and KeyError."""
    if type(reso) is not int:  # hashing what a sender chose may take for ever
        raise TypeError
    return _PER_SECOND[reso]


def _with_nanoseconds(text: str, nanos: int) -> str:
    if not nanos:
        return text
    second = len("2024-02-29 12:34:56")
    fraction = text[second:][:7] if text[second : second + 1] == "." else ""
    return f"{text[:second]}{fraction or '.000000'}{nanos:03}{text[second + len(fraction) :]}"


def time_difference(args: tuple[object, ...]) -> Text:
    """Return a Timedelta of pandas."""
    number, reso = args if len(args) == 2 else (*args, _NANOSECONDS)  # noqa: PLR2004 - as above
    per_second = _per_second(reso)
    seconds, rest = divmod(number, per_second)  # type: ignore[operator] # as above
    nanos = rest * 10**9 // per_second
    days, seconds = divmod(seconds, DAY)
    sign = "+" if days < 0 else ""
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{nanos:09}" if nanos % 1000 else f".{nanos // 1000:06}" if nanos else ""
    return Text(f"{days} days {sign}{clock}{fraction}")


def in_words(args: tuple[object, ...]) -> Text:
    """Return a Duration of pendulum. Its years and months are days in a pickle."""
    days, seconds, micros = args
    total = timedelta(days, seconds, micros)  # type: ignore[arg-type] # or it raises
    whole, rest = divmod(abs(total), timedelta(seconds=1))
    sign = "-" if total < timedelta() else ""
    words = []
    for unit, length in (("week", 604_800), ("day", DAY), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, whole = divmod(whole, length)
        if count:
            words.append(f"{sign}{count} {unit}{'s' if count > 1 else ''}")
    if not words:
        return Text(f"{sign}{rest / timedelta(seconds=1):.2f} seconds" if rest else "0 microseconds")
    return Text(" ".join(words))
