"""The names that this machine has for the numbers of users."""

from __future__ import annotations

import pwd
from contextlib import suppress
from functools import cache


def known_name(uid: int) -> str:
    """The name of a user as the machine's user database has it now; "" for an unknown number."""
    with suppress(KeyError, OverflowError):
        return pwd.getpwuid(uid).pw_name
    return ""


@cache
def user_name(uid: int | None) -> str:
    """The name of a user, else the number; "" where nobody knows the user. Asked once, for lists."""
    return "" if uid is None else known_name(uid) or str(uid)
