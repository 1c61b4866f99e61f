"""monkey_patched.py PORT LOGGER: patched by gevent, 50 greenlets that log at once through one handler."""

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402 - patching comes first
import logging.handlers  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402

log = logging.getLogger(sys.argv[2])
log.addHandler(logging.handlers.SocketHandler("127.0.0.1", int(sys.argv[1])))
log.setLevel(logging.INFO)


def work(sender):  # type: (int) -> None  # noqa: ANN001, ANN201 - Python 2 has no annotations
    for number in range(20):
        log.info("sender-%d record-%d", sender, number)
        gevent.sleep(0)


gevent.joinall([gevent.spawn(work, sender) for sender in range(50)], raise_error=True)
