"""Time zones as their libraries pickle them: the offset at a moment, or the name.

No zone file is read: an offset is known where the pickle has it, or where the zone's name tells it. Knows
zoneinfo, pytz, dateutil, pendulum, bson, Django, pydantic and their like. Anything else has neither, or
raises TypeError, ValueError, LookupError or ArithmeticError.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from collector.pickles.placeholder import Placeholder

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC where it is used
DAY = 86_400

_MAX_ZONE_NAME = 200
_MAX_ATTRIBUTES = 20
_COUNT_SECONDS = ("TzInfo", "FixedTimezone", "tzoffset")
_FIXED = re.compile(r"Etc/GMT([+-])(\d{1,2})")
_AT_GREENWICH = re.compile(r"(Etc/)?(UTC|UCT|GMT|GMT[+-]?0|Zulu|Universal|Greenwich)")
_WITHOUT_SUMMER = {"EST": -5, "MST": -7, "HST": -10}
_ZONEINFO = re.compile(r".*/zoneinfo/")


def offset_of(zone: Placeholder, moment: datetime | None, *, in_utc: bool = False) -> timedelta | None:
    """Return the offset of a zone at *moment*, in UTC or by its own clock; None if it is not known."""
    root, kind = zone.known_as
    args = zone.args or ()
    if kind.strip("_").lower() in ("utc", "tzutc"):
        return timedelta()
    if root == "pytz" and kind == "_p" and len(args) == 4:  # noqa: PLR2004 - name, offset, of summer, abbreviation
        return timedelta(seconds=args[1])  # type: ignore[arg-type] # or it raises
    if kind == "tzlocal":
        state = _of_state(zone)
        standard = state.get("_std_offset") if state.get("_hasdst") is False else None
        return standard if isinstance(standard, timedelta) else None
    fixed = _fixed(zone)
    if fixed is not None:
        return fixed
    if moment is not None:
        second = (moment - EPOCH) // timedelta(seconds=1)
        with suppress(LookupError):  # before its history begins
            offset = _by_transitions(zone, second, moment.fold, in_utc=in_utc)
            if offset is not None:
                return timedelta(seconds=offset)
    return _told_by(zone_name(zone))


def _of_state(thing: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever stands where one of theirs should
    match thing.state if type(thing) is Placeholder else None:
        case dict(state) | (_, dict(state)):  # or in slots
            return state
    return {}


def _fixed(zone: Placeholder) -> timedelta | None:
    """Return the offset of a zone that has only one."""
    (root, kind), state, args = zone.known_as, _of_state(zone), (zone.args or ())[:_MAX_ATTRIBUTES]
    held = (*islice(state.values(), _MAX_ATTRIBUTES), *args)
    differences = {value for value in held if type(value) is timedelta}
    if len(differences) == 1:  # that of summer would be another
        return differences.pop()
    if "FixedOffset" not in kind and kind not in _COUNT_SECONDS:
        return None
    unit = "seconds" if kind in _COUNT_SECONDS or root == "ciso8601" else "minutes"
    number = next((value for value in (state.get("_offset"), *args[:2]) if type(value) is int), None)
    return None if number is None else timedelta(**{unit: number})


def _told_by(name: str | None) -> timedelta | None:
    """Return the offset that the name of a zone tells."""
    if name is None:
        return None
    if _AT_GREENWICH.fullmatch(name):
        return timedelta()
    if fixed := _FIXED.fullmatch(name):
        return timedelta(hours=int(fixed[2]) * (-1 if fixed[1] == "+" else 1))
    return timedelta(hours=_WITHOUT_SUMMER[name]) if name in _WITHOUT_SUMMER else None


def zone_name(zone: Placeholder) -> str | None:
    """Return the name of a zone, such as Europe/Paris, None if it has none."""
    root, kind = zone.known_as
    args = zone.args or ()
    found: object = None
    if root == "dateutil" and kind in ("tzfile", "_unpickle"):
        found = next((value for value in args[:3] if isinstance(value, str)), None)
    elif kind == "tzlocal":
        names = _of_state(zone).get("_tznames")
        # What a sender says is text may be a list that takes gigabytes to print.
        if type(names) is tuple and len(names) == 2 and all(type(each) is str for each in names):  # noqa: PLR2004 - of winter and summer
            found = "/".join(dict.fromkeys(names))
    elif kind in ("_p", "Timezone", "ZoneInfo", "_unpickle"):
        found = args[0] if args else None
    if not isinstance(found, str) or not 0 < len(found) <= _MAX_ZONE_NAME or not found.isprintable():
        return None
    return _ZONEINFO.sub("", found)


def _by_transitions(zone: Placeholder, second: int, fold: int, *, in_utc: bool) -> int | None:
    """Return the offset by the history that dateutil and pendulum 2 put into a pickle; None: not theirs.

    Of two that a *second* may have, *fold* tells which one, as in PEP 495. The history may have any length:
    it is only looked into where needed.
    """
    match zone.known_as, zone.args, _of_state(zone):
        case (("dateutil", "tzfile"), _, {"_trans_list_utc": tuple(at), "_trans_idx": tuple(infos)}):
            offset_from: Callable[[int], Any] = lambda index: _of_state(infos[index])["offset"]  # noqa: E731 - one of three
        case (
            ("dateutil", "_unpickle"),
            (_, _, _, (tuple(indices), tuple(at), list() | tuple() as offsets, *_)),
            _,
        ):
            offset_from = lambda index: offsets[indices[index]]  # noqa: E731 - as above
            if not at or second > at[-1]:  # a rule holds from then on
                return None
        case (("pendulum", "Timezone"), _, {"_transitions": list(at)}):
            offset_from = lambda index: _of_state(_of_state(at[index])["_ttype"])["_offset"]  # noqa: E731 - as above
        case _:
            return None
    instant_of = (lambda one: _of_state(one)["_at"]) if zone.known_as[0] == "pendulum" else None

    def offset_at(instant: int) -> int:
        change = bisect_right(at, instant, key=instant_of) - 1
        found = offset_from(change) if change >= 0 else None
        if type(found) is not int:
            raise LookupError
        return found

    if in_utc:
        return offset_at(second)
    before, after = offset_at(second - DAY), offset_at(second + DAY)
    first, last = offset_at(second - before) == before, offset_at(second - after) == after
    if first == last:  # it comes twice, or never, or nothing changes
        return after if bool(fold) else before
    return before if first else after
