"""Where a node's Unix socket lies: a folder of its own below one that all nodes of this user share.

    <temporary folder>/cajun-<uid>/          0700: who may not enter it cannot connect
        <random>/                            one node; locked (flock) as long as its process lives
            <port>.sock

Laws: a node that is killed cannot clean up, so each node that starts removes what dead ones left. Dead is who holds no
lock: the kernel lets go of it with the process, whatever that died of. A folder is removed only under its own lock, and
counts as made only once it is locked and still there: so nobody ever removes a living node's, nor one that is being
made. What stands at the shared name and belongs to somebody else is not used.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile

UNIX_PATH_MOST = 100  # bytes: sun_path has 108 on Linux, 104 elsewhere
TRIES = 10

log = logging.getLogger("cajun_fast.messaging")


class SocketFolder:
    """One node's, locked until ``close``."""

    def __init__(self, folder: str, lock: int) -> None:
        self._folder, self._lock = folder, lock

    def path(self, port: int) -> str:
        """Where the socket goes."""
        return os.path.join(self._folder, f"{port}.sock")

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def make_folder() -> SocketFolder | None:
    """A new one, and the dead ones are gone. None where there can be none: nodes of this machine then talk TCP."""
    shared = os.path.join(tempfile.gettempdir(), f"cajun-{os.geteuid()}")
    try:
        os.makedirs(shared, 0o700, exist_ok=True)
        found = os.lstat(shared)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            log.warning("%s is not this user's alone: no Unix socket, nodes of this machine talk TCP", shared)
            return None
        sweep(shared)
        return _make(shared)
    except OSError as error:
        log.warning("no Unix socket below %s (%s): nodes of this machine talk TCP", shared, error)
        return None


def sweep(shared: str) -> None:
    """Remove the folders of dead nodes."""
    with os.scandir(shared) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        lock = _lock(folder)
        if lock is not None:
            SocketFolder(folder, lock).close()


def _make(shared: str) -> SocketFolder | None:
    for _ in range(TRIES):
        folder = tempfile.mkdtemp(dir=shared, prefix="")
        if len(os.fsencode(folder)) + len("/65535.sock") > UNIX_PATH_MOST:
            os.rmdir(folder)
            return None
        lock = _lock(folder)
        if lock is not None:
            return SocketFolder(folder, lock)
    return None


def _lock(folder: str) -> int | None:
    """Its lock, unless somebody has it or the folder is gone meanwhile."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(folder, follow_symlinks=False)):
            return lock
    os.close(lock)
    return None
