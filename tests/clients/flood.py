"""flood.py PORT CLIENT COUNT: sends COUNT records, or for 0 as many as it can until it is cut off.

With COUNT+ it sends at least as many, in thousands, until its standard input ends, and prints how many.

They come from four loggers in turn, in seven lengths. A SocketHandler pickles one record of each kind; the
others differ from it in nothing but the number, which is put into the bytes: that is quick enough to keep a
collector busy. Unlike its neighbours this one runs on the tests' own Python only.
"""

import logging
import logging.handlers
import select
import socket
import sys
from itertools import count, islice

NUMBER = b"#######"
LOGGERS = 4
LENGTHS = 7
BATCH = 1000

port, client, total = (int(argument.rstrip("+")) for argument in sys.argv[1:])
until_told = sys.argv[3].endswith("+")
pickler = logging.handlers.SocketHandler("127.0.0.1", port)
frames = []
for kind in range(LOGGERS * LENGTHS):
    message = f"client {client} record {NUMBER.decode()} {'-' * (kind % LENGTHS * 10)} end"
    record = logging.LogRecord(
        f"load.{kind % LOGGERS}", logging.INFO, __file__, 1, message, None, None, "flood"
    )
    frames.append(pickler.makePickle(record))

numbers = range(total) if total and not until_told else count()
numbered = (frames[n % len(frames)].replace(NUMBER, b"%07d" % n) for n in numbers)
sent = 0
sock = socket.create_connection(("127.0.0.1", port))
try:
    for batch in iter(lambda: b"".join(islice(numbered, BATCH)), b""):
        sock.sendall(batch)
        sent += BATCH
        if until_told and sent >= total and select.select([sys.stdin], [], [], 0)[0]:
            print(sent)
            break
except (BrokenPipeError, ConnectionResetError):
    sys.exit(total != 0)  # being cut off is what the one without end waits for
sock.close()
