"""Whom servers run as that refuse to run as root."""

import os
import pwd
from functools import cache
from pathlib import Path
from typing import TypedDict


class Credentials(TypedDict, total=False):
    """Arguments of `subprocess.Popen`."""

    user: int
    group: int
    extra_groups: list[int]


@cache
def unprivileged() -> Credentials:
    """Return another user's ids when we are root, else nothing."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise LookupError("root cannot run this server, and there is no user postgres or nobody")


def hand_over(path: Path) -> None:
    """Give a file or folder to the user that `unprivileged` returns."""
    if user := unprivileged():
        os.chown(path, user["user"], user["group"])
