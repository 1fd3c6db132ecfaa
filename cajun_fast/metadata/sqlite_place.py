"""Where a cluster's database file lies, and on which boot of which machine: checked before anything is
opened.

Laws: only looks, never writes. Every refusal names the path and the remedy. Nothing here reads the wall
clock.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from cajun_fast.errors import ConfigError

#: File systems over a network: their locks and shared memory do not hold what WAL needs.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "glusterfs", "ocfs2", "gfs2"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone"}
)
MOUNTS = Path("/proc/self/mountinfo")


def check_place(path: Path, mounts: Path = MOUNTS) -> None:
    """Raises ConfigError if no database can live at ``path``."""
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(
            f"sqlite store {str(path)!r}: the folder {str(folder)!r} does not exist: "
            "create it, or correct the path"
        )
    if path.is_dir():
        raise ConfigError(
            f"sqlite store {str(path)!r} is a folder: name a file in it, e.g. {path / 'cluster.db'}"
        )
    # The folder must be writable in any case: the log and the shared memory lie beside the file.
    for place in [folder, *([path] if path.exists() else [])]:
        if not os.access(place, os.R_OK | os.W_OK):
            raise ConfigError(
                f"sqlite store {str(path)!r}: {str(place)!r} is not writable for user {_user()}: "
                "change its owner or mode, or choose another place"
            )
    kind = file_system(folder, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"sqlite store {str(path)!r} lies on a network file system ({kind}), which cannot keep it "
            "consistent: use a local folder for one machine, etcd (http://host:2379) for several"
        )


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "of this process"


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that holds ``folder``; empty where the system does not say."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    best, kind = -1, ""
    for point, name in _mount_points(lines):
        if (real == point or point in real.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), name  # of two mounts at one point the later one is seen
    return kind


def _mount_points(lines: Iterable[str]) -> Iterable[tuple[Path, str]]:
    for line in lines:
        head, separator, tail = line.partition(" - ")
        fields = head.split()
        if separator and len(fields) >= 5 and tail:
            yield Path(_unescape(fields[4])), tail.split()[0]


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes as octal."""
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, sign)
    return text


def boot_id() -> str:
    """Another text after each start of the machine, the same in all its processes and containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _sysctl("kern.bootsessionuuid") if sys.platform == "darwin" else "unknown"


def _sysctl(name: str) -> str:
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    size = ctypes.c_size_t(128)
    text = ctypes.create_string_buffer(size.value)
    failed = libc.sysctlbyname(name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0))
    return "unknown" if failed else text.value.decode()
