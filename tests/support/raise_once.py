"""The collector with a fault: `python raise_once.py MODULE:NAME ARGUMENTS`; NAME raises at its first call.

Each later call writes a line to stderr. A guardian hands that on to its worker, as it does all arguments.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import reduce, wraps
from itertools import count
from typing import Any

from collector.cli import main


def spoil(target: str) -> None:
    module, _, name = target.partition(":")
    *owners, last = name.split(".")
    owner: Any = reduce(getattr, owners, importlib.import_module(module))
    function = getattr(owner, last)
    calls = count()

    @wraps(function)
    def spoiled(*arguments: Any, **named: Any) -> Any:
        if not next(calls):
            raise RuntimeError(f"{target} raises once")
        os.write(2, f"{target} is called again\n".encode())
        return function(*arguments, **named)

    setattr(owner, last, spoiled)


if __name__ == "__main__":
    spoil(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
