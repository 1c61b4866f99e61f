"""The thread in which a volume is written: one call after the other, each waited for by a greenlet."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class _Call:
    """What is to be called, and what became of it."""

    __slots__ = ("arguments", "done", "fault", "function", "result")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.done = Event()
        self.result: Any = None
        self.fault: Exception | None = None


class WriterThread:
    """Does what gevent's ThreadPool(1) does, at a third of the cost of a hop."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._done: deque[_Call] = deque()
        self._signal = gevent.get_hub().loop.async_()
        self._signal.start(self._tell)
        Thread(target=self._run, daemon=True).start()

    def apply(self, function: Callable[..., _Result], arguments: tuple[Any, ...]) -> _Result:
        """Call *function* in the thread, and return its result. Raises what it raises."""
        call = _Call(function, arguments)
        self._calls.put(call)
        call.done.wait()
        if call.fault:
            raise call.fault
        return call.result  # type: ignore[no-any-return] # it is what the function returned

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call.result = call.function(*call.arguments)
            except Exception as fault:  # noqa: BLE001 - it is for whoever waits for the call
                call.fault = fault
            self._done.append(call)
            self._signal.send()

    def _tell(self) -> None:
        while self._done:
            self._done.popleft().done.set()
