"""The token of the admin port, which may lie in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.config import checks
from collector.config.toml_text import shown

if TYPE_CHECKING:
    from collector.config.tables import Admin

# A token has some dozens of characters; a path given by mistake may be that of /dev/zero.
_MAX_BYTES = 4096


def token_of(admin: Admin) -> str:
    """Return the token, read from its file if it is in one; "": none is needed.

    Raises OSError with place, rule and remedy, and never with what the file holds.
    """
    if not admin.token_file:
        return admin.token
    why = "holds more than letters, digits and -._~ and a newline after them"
    try:
        with open(admin.token_file, "rb") as file:
            data = file.read(_MAX_BYTES)
        token = data.decode("ascii").removesuffix("\n").removesuffix("\r")
        if token and len(data) < _MAX_BYTES:
            return str(checks.TOKEN(token))
        why = f"has {_MAX_BYTES} bytes or more" if token else "is empty"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except ValueError:
        pass
    remedy = "write the token there, in one line, readable for this user"
    raise OSError(f"[admin] token_file = {shown(admin.token_file)}: {why}; {remedy}")
