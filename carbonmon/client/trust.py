"""Whether a file that lies in the working folder may decide for us. Standard library only."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path


def why_not(path: Path) -> str:
    """Why a file is not to be believed, "" if it is: who may change it must be we or root."""
    try:
        found = (path.lstat(), path.stat())  # a link has an owner of its own
    except OSError as error:
        return error.strerror or str(error)
    for each in found:
        if each.st_uid not in (os.geteuid(), 0):
            return f"it belongs to user {each.st_uid}"
    mode, uid, gid = found[1].st_mode, found[1].st_uid, found[1].st_gid
    if mode & stat.S_IWOTH:
        return "every user may write into it"
    if mode & stat.S_IWGRP and not _is_own_group(uid, gid):
        return f"group {gid} may write into it"
    return ""


def _is_own_group(uid: int, gid: int) -> bool:
    """Whether a group is a user's own, with the user's name (the way of useradd(8)); root's is always."""
    if uid == gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
