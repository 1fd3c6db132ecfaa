"""The inputs that are kept: one file a target, one input a line in hexadecimal, shortest first; long ones are not worth
their place in the repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"

SEEDS = {
    "codec": [b"\xc0", b"\x93\x01\xa1x\xcb" + bytes(8), b"\x81\xa1k\xc4\x02ab", b"\xd6\x01abcd", b"\xc7\x03\x02abc"],
    # A name, a tell to it, an ask, acknowledgements, chunks, a reconnect; and what this side sends meanwhile.
    "link": [
        b"\x03\x01\x00\x02\x01\x00\x02\x00\x01\xa1",
        b"\x08\x00\x09\x04\x00\x00\x00\x00\x08\x10\x09\x04\x01\x01\x00\x02\x00\x00",
        b"\x08\x0c\x08\x10\x09\x07\x01\x04\x00\x00\x00\x00\x0a\x0b\x0b\x00\x01\x06\x03\x01",
        b"\x03\x01\x00\x05\x01\x08\x00\x08abcdefgh\x02\x01\x00\x82\x00\x04\x01\x00\x00\x00",
        b"\x03\x01\x02\x02\x01\x01\x0a\x05\x01\x01\x0c\x01\x00",
        # A name, and a tell to it with a trace behind its options; one whose trace does not fit; one of another kind.
        b"\x03\x01\x01x\x02\x01\x82\x02\x00\x1c\x01\x19\x00" + bytes(range(25)) + b"\x01\xc0",
        b"\x03\x01\x01x\x02\x01\x82\x02\x00\x05\x01\xff\x00ab\x01\xc0",
        b"\x03\x01\x01x\x02\x01\x83\x06\x09\x00\x21\x07\x02\x00ab\x01\x19\x00" + bytes(25) + b"\x01\xc0",
    ],
    "connection": [
        b"\x60" + bytes.fromhex("cf010100460000000000000000000000")
        + bytes.fromhex("01000200010000000100000000000000090000000000000000000000000000 00".replace(" ", ""))
        + bytes(32) + bytes([1, 1, 1, 0]) + b"cm",
    ],
    # A key for slot 1; a beat of it, the same again, a later one, one under another key, one of slot 2; forgotten.
    "beat": [
        b"\x00\x01\x00" + b"\x03\x01\x05\x07\x09\x00\x00\x00" * 2 + b"\x03\x01\x06\x07\x09\x00\x00\x00"
        + b"\x03\x01\x07\x07\x09\x00\x01\x00" + b"\x03\x02\x08\x07\x09\x00\x00\x00" + b"\x01\x01",
        b"\x02\x28" + b"\xcf\xbe\x01\x00" + bytes(36),
    ],
}  # fmt: skip
#: With authentication the same HELLO, and a proof that is none behind it.
SEEDS["stranger"] = [
    SEEDS["connection"][0],
    SEEDS["connection"][0]
    + b"\x31"
    + bytes.fromhex("cf010500210000000000000000000000")
    + b"\x02"
    + bytes(32),
]

#: Words worth inserting.
WORDS = {
    "codec": [bytes([byte]) for byte in range(0xC0, 0xE0)]
    + [b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"],
    "link": [bytes([operation]) for operation in range(14)],
    "connection": [
        b"\xcf\x01" + bytes([kind]) + bytes(13) for kind in (1, 2, 3, 4, 5, 16, 17, 32, 33, 34, 35)
    ],
}
WORDS["beat"] = [b"\xcf\xbe\x01\x00", *(bytes([operation]) for operation in range(5))]
WORDS["stranger"] = WORDS["connection"]


KEPT_MOST = 250  # bytes


def load(target: str) -> list[bytes]:
    """What is kept for a target, and the seeds."""
    path = FOLDER / f"{target}.txt"
    lines = path.read_text().split() if path.exists() else []
    return SEEDS[target] + [bytes.fromhex(line) for line in lines]


def save(target: str, inputs: Iterable[bytes]) -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{target}.txt"
    lines = sorted(
        {data.hex() for data in inputs if 0 < len(data) <= KEPT_MOST}, key=lambda line: (len(line), line)
    )
    new = path.with_suffix(".new")
    new.write_text("".join(line + "\n" for line in lines))
    with contextlib.suppress(FileNotFoundError):
        os.replace(new, path)
