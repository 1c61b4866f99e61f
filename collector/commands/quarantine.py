"""The command `quarantine`: lists what could not be decoded, shows one frame of it as text, sends it again.

It runs beside a collector, and nothing in it unpickles. It sends what this version can decode, so that a
collector of the same version has no reason to put it back. A frame leaves the quarantine once the collector
has read all of its batch and hung up: the protocol has no other receipt.
"""

from __future__ import annotations

import os
import pickletools
import sys
from collections import Counter
from contextlib import ExitStack, closing, suppress
from itertools import islice
from typing import TYPE_CHECKING

from collector.config.load import ConfigError, load
from collector.exits import EXIT_CANNOT_START, EXIT_FAILED, EXIT_OK, reader_may_leave
from collector.files.lock import holder
from collector.files.quarantined import alone, halves
from collector.forward import lock
from collector.forward.holding import moment
from collector.listen.sending import Way, wait_until_read
from collector.log import counted
from collector.wire.fragments import RecordReader
from collector.wire.framing import begins_as_pickle, frame
from collector.wire.records import message_of, name_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from collector.config.tables import Config, Listen
    from collector.files.quarantined import Half, Kept
    from collector.wire.records import Record

_LOCK = ".quarantine.lock"
# What goes over one connection, and is in doubt if that breaks. For each batch its half is written anew.
_BATCH_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
# Of a frame that is shown, which may be anything.
_DISASSEMBLED_BYTES = 64 * 1024
_MAX_OPCODES = 200
_MAX_CHARACTERS = 200
_MAX_BITS = 64
_DUMPED_BYTES, _DUMPED_A_LINE = 256, 16


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code. Raises ConfigError, OSError."""
    config = load(options.config)
    directory = os.path.realpath(config.files.directory)
    if not os.path.isdir(directory):
        raise ConfigError([f"collector quarantine: [files] directory = {directory!r}: no such directory"])
    if options.replay:
        return _replay(config, directory)
    with reader_may_leave(), ExitStack() as until_done:
        opened = [until_done.enter_context(closing(half)) for half in halves(directory)]
        return _list(opened) if options.show is None else _show(opened, options.show, config.listen)
    return EXIT_OK


def _numbered(opened: Sequence[Half]) -> Iterator[tuple[int, Half, Kept]]:
    """Yield all frames, the oldest first, each with its number and its half."""
    number = 0
    for half in opened:
        while kept := half.next():
            number += 1
            yield number, half, kept


def _known(kept: Kept) -> tuple[str, str, str]:
    """Return when a frame came, from whom, and why it could not be decoded, each "-" if nobody knows."""
    entry = kept.entry
    if not entry:
        return "-", "-", "-"
    return moment(entry.received), _harmless(entry.client), _harmless(entry.reason)


def _size(kept: Kept) -> str:
    """Return the size of a frame as the log has it: without its length."""
    return counted(len(kept.payload), "byte")


def _list(opened: Sequence[Half]) -> int:
    for number, _, kept in _numbered(opened):
        when, client, reason = _known(kept)
        _say(f"{number} {when} {client} {_size(kept)}: {reason}")
    for half in opened:
        if half.rest:
            _complain(f"{half.path}: ends with {counted(half.rest, 'byte')} that are no whole frame")
    return EXIT_OK


# --- one frame as text ---


def _show(opened: Sequence[Half], wanted: int, listen: Listen) -> int:
    number = 0
    for number, half, kept in _numbered(opened):  # noqa: B007 - the last one is told
        if number == wanted:
            break
    else:
        _complain(f"--show {wanted}: no such frame; the list has {counted(number, 'frame')}")
        return EXIT_CANNOT_START
    when, client, reason = _known(kept)
    about = {"time": when, "client": client, "reason": reason, "size": _size(kept)}
    about["place"] = f"{half.path}, from byte {kept.offset} on"
    if record := _record(kept.payload, RecordReader(listen.python2_encoding)):
        about["record"] = f"can be decoded now: {_cut(f'{name_of(record)}: {message_of(record)}')}"
    for key, value in about.items():
        _say(f"{key}: {value}")
    if begins_as_pickle(kept.payload):
        _say("\nopcodes, which nobody has run:")
        for line in _opcodes(kept.payload):
            _say(line)
    _say("\nbytes:")
    for line in _dump(kept.payload):
        _say(line)
    return EXIT_OK


def _record(payload: bytes, reader: RecordReader) -> Record | None:
    """Return the record that this version reads in a payload, None if it reads none."""
    return next(reader.read([payload], [], []), None)


def _opcodes(payload: bytes) -> Iterator[str]:
    """Yield a pickle as a line for each opcode, as far as it is one."""
    opcodes = pickletools.genops(payload[:_DISASSEMBLED_BYTES])
    try:
        for opcode, argument, at in islice(opcodes, _MAX_OPCODES):
            yield f"{at:6} {opcode.name} {_argument(argument)}".rstrip()
        if next(opcodes, None):
            yield "   ..."
    except Exception as fault:  # noqa: BLE001 - a library for pickles that are sound reads one that is not
        yield f"   ... {_cut(f'{fault}')}"


def _argument(value: object) -> str:
    """Return the argument of an opcode as bounded text."""
    if isinstance(value, str | bytes | bytearray):
        value = value[: _MAX_CHARACTERS + 1]
    elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return _cut(hex(value))  # decimal digits take quadratic time
    return "" if value is None else _cut(repr(value))


def _dump(payload: bytes) -> Iterator[str]:
    """Yield the first bytes, in hexadecimal and as ASCII."""
    for at in range(0, min(len(payload), _DUMPED_BYTES), _DUMPED_A_LINE):
        piece = payload[at : min(at + _DUMPED_A_LINE, _DUMPED_BYTES)]
        text = "".join(
            chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else "." for byte in piece
        )
        yield f"{at:6} {piece.hex(' '):{3 * _DUMPED_A_LINE}} {text}"
    if len(payload) > _DUMPED_BYTES:
        yield "   ..."


def _cut(text: str) -> str:
    """Return text from the wire, bounded and harmless."""
    return _harmless(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")


def _harmless(text: str) -> str:
    """Return text that does nothing to a terminal, not even to the direction in which it is read."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# --- once more ---


def _replay(config: Config, directory: str) -> int:
    way = Way.to(config.listen)
    if not way:
        remedy = "name the port, or give it a socket by `unix`"
        raise ConfigError([f"collector quarantine: [listen] port = 0 does not tell where to send; {remedy}"])
    if not holder(directory):
        _complain(f"no collector runs in {directory}: nothing was sent; start it first")
        return EXIT_FAILED
    try:
        held = lock.take(os.path.join(directory, _LOCK))
    except lock.HeldError as error:
        whose = f"process {error.pid or 'unknown'}"
        raise ConfigError([f"collector quarantine: is replayed already, by {whose}"]) from error
    taken, left = 0, Counter[str]()
    with ExitStack() as until_done:
        until_done.callback(os.close, held)
        with suppress(OSError):  # left by root, it would keep out whom the directory belongs to
            os.fchown(held, os.stat(directory).st_uid, os.stat(directory).st_gid)
        with alone(directory):
            opened = [until_done.enter_context(closing(half)) for half in halves(directory)]
        try:
            for batch, why in _sent(opened, way, config.listen, left):
                taken += 0 if why else len(batch)
                if why:
                    left[why] += len(batch)
        except KeyboardInterrupt:
            _say(f"{taken} taken; interrupted: all others stay")
            return EXIT_FAILED
    _say(f"{taken} taken, {left.total()} left")
    for reason, count in left.items():
        _complain(f"{counted(count, 'frame', 'stays', 'stay')}: {reason}")
    return EXIT_FAILED if left else EXIT_OK


def _sent(
    opened: Sequence[Half], way: Way, listen: Listen, left: Counter[str]
) -> Iterator[tuple[list[Kept], str]]:
    """Send what can be decoded; yield each batch with the reason why it stays, "" if it does not.

    Add to *left* what is in no batch. After one that stays, no other is sent.
    """
    reader = RecordReader(listen.python2_encoding)
    why = ""
    for half in opened:
        while batch := _batch(half, reader, listen.max_frame_bytes, left):
            if why:
                yield batch, "not sent after that"
            else:
                why = _send(half, batch, way)
                yield batch, why


def _batch(half: Half, reader: RecordReader, max_frame_bytes: int, left: Counter[str]) -> list[Kept]:
    """Return the next frames to send, [] if there are none."""
    batch: list[Kept] = []
    size = 0
    while size < _BATCH_BYTES and (kept := half.next()):
        if len(kept.payload) > max_frame_bytes:
            left[f"larger than [listen] max_frame_bytes = {max_frame_bytes}"] += 1
        elif _record(kept.payload, reader):
            batch.append(kept)
            size += kept.size
        else:
            left["cannot be decoded by this version either"] += 1
    return batch


def _send(half: Half, batch: Sequence[Kept], way: Way) -> str:
    """Send a batch and take it out of its half; return why it stays, "" if it does not."""
    how = "cannot be taken out, so not sent"
    try:
        with half.taking_out(batch):
            how = f"cannot reach {way}"
            data = memoryview(b"".join(frame(kept.payload) for kept in batch))
            with way.connect() as sock:
                how = f"{way} has read all or a part, and will get it twice"
                for at in range(0, len(data), _PIECE_BYTES):
                    sock.sendall(data[at : at + _PIECE_BYTES])
                wait_until_read(sock)
            how = "was read, and cannot be taken out, so will be sent twice"
    except (OSError, UnicodeError) as error:  # UnicodeError: the name of no host
        why = getattr(error, "strerror", None) or error
        return f"{how}: {why}"
    return ""


def _say(text: str) -> None:
    print(text)


def _complain(text: str) -> None:
    print(f"collector quarantine: {text}", file=sys.stderr)
