"""sink.py TYPE RECORDS: a destination that stores nothing, and only answers that all is stored.

It prints its port, and "ready" once it is to answer for the first time; it does so behind a line of input.
Once it has answered for RECORDS records it prints "done".
"""

from __future__ import annotations

import re
import socket
import sys
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ_BYTES = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
_ACTION = b'{"create":{"_index":"'
_ITEM = b'{"create":{"_index":"collector-2026.01.01","status":201}}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_FRAME = re.compile(rb"(\d+) (\w+) (\d+)[ \n]")
_OFFERS = b"200 OK\nrelp_version=0\nrelp_software=sink\ncommands=syslog"


def bulk(client: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the number of documents in each request, and the answer."""
    data = b""
    while True:
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += _read(client)
        length = _LENGTH.search(data, 0, end)
        assert length, data[:end]
        body, missing = [data[end + 4 :]], end + 4 + int(length[1]) - len(data)
        while missing > 0:
            body.append(_read(client))
            missing -= len(body[-1])
        data = b""  # nothing comes behind a request before its answer
        count = zlib.decompress(b"".join(body), _GZIP).count(_ACTION)
        answer = b'{"errors":false,"items":[%b]}' % b",".join([_ITEM] * count)
        yield count, _ANSWER % (len(answer), answer)


def relp(client: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the number of records in what is read at a time, and the answers."""
    data = b""
    while True:
        data += _read(client)
        at, count, answers = 0, 0, []
        while frame := _FRAME.match(data, at):
            size = int(frame[3])
            end = frame.end() + size + (size > 0)
            if end > len(data):
                break
            at = end
            text = _OFFERS if frame[2] == b"open" else b"200 OK"
            count += frame[2] == b"syslog"
            answers.append(b"%b rsp %d %b\n" % (frame[1], len(text), text))
        data = data[at:]
        yield count, b"".join(answers)


def fluent(client: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the number of entries in each message, and its acknowledgement."""
    import msgpack

    messages = msgpack.Unpacker(max_buffer_size=2**31 - 1)
    while True:
        messages.feed(_read(client))
        for _, _, options in messages:
            yield options["size"], msgpack.packb({"ack": options["chunk"]})


TYPES: dict[str, Callable[[socket.socket], Iterator[tuple[int, bytes]]]] = {
    "elasticsearch": bulk,
    "relp": relp,
    "fluent": fluent,
}


def _read(client: socket.socket) -> bytes:
    data = client.recv(_READ_BYTES)
    if not data:
        sys.exit()
    return data


def main(kind: str, records: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answered, said = 0, False
    for count, answer in TYPES[kind](client):
        if not said:
            print("ready", flush=True)
            sys.stdin.readline()
            said = True
        client.sendall(answer)
        answered += count
        if answered == records:
            print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
