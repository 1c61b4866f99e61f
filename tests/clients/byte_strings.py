"""byte_strings.py PORT LOGGER: on Python 2, text as bytes in UTF-8, alone and as an argument."""

import logging
import logging.handlers
import sys

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))
log.setLevel(logging.INFO)

log.info(b"record-0: gr\xc3\xbc\xc3\x9fe")
log.info(b"record-1: %s", b"\xe6\xbc\xa2\xe5\xad\x97")
log.info(b"record-2: %s", b"\xf0\x9f\x98\x80")
