"""Hot functions stay C: no change adds a call into the interpreter to one of them unnoticed.

The generated C of the development build says above each piece which line of the .pyx it comes from. Counted
are the calls of the Python C API and of Cython's helpers in the lines of a function, on its error paths too;
reference counts and access macros are not calls.

A row is one line: module, function, calls. A new row starts with any number; the failure names the right one.
A lower count than the row's passes: lower the row in the same commit.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src_pyx"
GENERATED = ROOT / "build" / "dev" / "c"

HOT_FUNCTIONS = [
    ("cajun_fast._core.breaker", "CircuitBreaker.acquire", 0),
    ("cajun_fast._core.breaker", "CircuitBreaker.record_success", 0),
    ("cajun_fast._core.frame", "get_record", 0),
    ("cajun_fast._core.locations", "LocationCache.get", 2),
    ("cajun_fast._core.window", "SendWindow.open_record", 0),
    # The way of one tell, from here to its handler there.
    ("cajun_fast._core.lane", "Pid.tell", 20),
    ("cajun_fast._core.lane", "Lane.submit", 1),
    ("cajun_fast._core.lane", "Lane.attempt", 21),
    ("cajun_fast._core.outbound", "Outbound.post", 15),
    ("cajun_fast._core.outbound", "Outbound.post_encoded", 15),
    ("cajun_fast._core.outbound", "Outbound.append", 16),
    ("cajun_fast._core.outbound", "Outbound.signal", 0),
    ("cajun_fast._core.codec", "Codec.write", 0),
    ("cajun_fast._core.codec", "Codec.write_dict", 10),
    ("cajun_fast._core.inbound", "Inbound.on_record", 13),
    ("cajun_fast._core.inbound", "Inbound.on_message", 26),
    ("cajun_fast._core.inbound", "Inbound.deliver", 6),
    ("cajun_fast._core.codec", "Codec.read", 3),
    ("cajun_fast._core.codec", "Codec.read_map", 2),
    ("cajun_fast._core.cell", "Cell.deliver", 10),
    ("cajun_fast._core.cell", "Cell.run", 1),
    ("cajun_fast._core.cell", "Cell.settle", 1),
    ("cajun_fast._core.cell", "Cell.rest", 0),
]

# Inline functions of a .pxd: counted in the C of a module that uses them.
HOT_INLINE = [
    ("cajun_fast._core.scalars", "put_text", "cajun_fast._core.codec", 0),
    ("cajun_fast._core.scalars", "put_int", "cajun_fast._core.codec", 0),
    ("cajun_fast._core.scalars", "put_float", "cajun_fast._core.codec", 0),
    ("cajun_fast._core.scalars", "put_size", "cajun_fast._core.codec", 0),
    ("cajun_fast._core.scalars", "write_scalar", "cajun_fast._core.codec", 3),
    ("cajun_fast._core.scalars", "need", "cajun_fast._core.codec", 0),
    ("cajun_fast._core.scalars", "TextCache.text", "cajun_fast._core.codec", 0),
]

pytestmark = pytest.mark.skipif(not GENERATED.is_dir(), reason="only in a checkout that make build compiled")


class Lines(NamedTuple):
    first: int
    last: int


@functools.cache
def functions(module: str, suffix: str = ".pyx") -> dict[str, Lines]:
    """Where each function of a file lies, decorators left out: {"Class.method": Lines(12, 20)}."""
    text = (SOURCES / module.replace(".", "/")).with_suffix(suffix).read_text(encoding="utf-8")
    return parse_functions(text)


CLASS = re.compile(r"(?P<indent> *)(?:cdef +)?class +(?P<name>\w+)")
FUNCTION = re.compile(r"(?P<indent> *)(?:async +)?(?:def|cp?def)\b[^=#]*?\b(?P<name>\w+) *\(")


def parse_functions(text: str) -> dict[str, Lines]:
    found: dict[str, Lines] = {}
    classes: list[tuple[int, str]] = []
    inside: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        closes = line.lstrip().startswith(")")
        if inside and (indent > inside[0] or closes):
            found[inside[1]] = found[inside[1]]._replace(last=number)
            continue
        inside = None
        classes = [each for each in classes if each[0] < indent]
        if declared := CLASS.match(line):
            classes.append((indent, declared["name"]))
        elif declared := FUNCTION.match(line):
            name = ".".join([*(each[1] for each in classes), declared["name"]])
            found[name] = Lines(number, number)
            inside = (indent, name)
    return found


PIECE = re.compile(r'/\* "(?P<file>[^"]+)":(?P<line>\d+)\n')
END_OF_BODY = re.compile(r"^\s*/\* function exit code \*/|^}", re.MULTILINE)
CALL = re.compile(r"\b(?:Py[A-Z_]\w*|_Py\w+|__Pyx_\w+)(?=\()")
NO_CALL = re.compile(
    r"""Py_X?(?:INC|DEC)REF | Py_CLEAR | Py_None | Py_TYPE | Py_REFCNT
      | __Pyx_(?:X?(?:GOT|GIVE|INC|DEC)REF|X?CLEAR|RefNanny\w*|\w*SET_REFCNT\w*)
      | \w+_[A-Z][A-Z_]+  # PyList_GET_SIZE and the like read a field
    """,
    re.VERBOSE,
)


def calls(module: str, function: str) -> list[str]:
    """The calls into Python that the C of one function makes, in order."""
    lines = functions(module)[function]
    path = module.replace(".", "/")
    c_file = (GENERATED / path).with_suffix(".c")
    assert c_file.stat().st_mtime >= (SOURCES / path).with_suffix(".pyx").stat().st_mtime, (
        f"{c_file} is older than its .pyx: make build"
    )
    return calls_between(c_file.read_text(encoding="utf-8"), path + ".pyx", lines)


def calls_between(c_text: str, file: str, lines: Lines) -> list[str]:
    pieces = list(PIECE.finditer(c_text))
    ends = [piece.start() for piece in pieces[1:]] + [len(c_text)]
    found = []
    for piece, end in zip(pieces, ends, strict=True):
        if not piece["file"].endswith(file) or not lines.first <= int(piece["line"]) <= lines.last:
            continue
        code = c_text[c_text.index("*/", piece.end()) : end]
        if stop := END_OF_BODY.search(code):
            code = code[: stop.start()]
        found += [call for call in CALL.findall(code) if not NO_CALL.fullmatch(call)]
    return found


@pytest.mark.parametrize(("module", "function", "baseline"), HOT_FUNCTIONS)
def test_it_calls_python_no_more_often_than_the_table_says(module: str, function: str, baseline: int) -> None:
    assert function in functions(module), f"{module} has no {function}; it has {sorted(functions(module))}"
    found = calls(module, function)
    assert len(found) <= baseline, f"{function}: {len(found)} calls into Python, {baseline} allowed: {found}"


@pytest.mark.parametrize(("module", "function", "user", "baseline"), HOT_INLINE)
def test_an_inline_one_does_not_either(module: str, function: str, user: str, baseline: int) -> None:
    c_file = (GENERATED / user.replace(".", "/")).with_suffix(".c")
    file = module.replace(".", "/") + ".pxd"
    found = calls_between(c_file.read_text(encoding="utf-8"), file, functions(module, ".pxd")[function])
    assert len(found) <= baseline, f"{function}: {len(found)} calls into Python, {baseline} allowed: {found}"


PLANTED = '''
cdef class Counter:
    """Doc."""
    cdef int count

    cdef int add(self, int n,
                 bint twice) noexcept nogil:
        # why
        return n

    @property
    def total(self):
        return self.count


cdef inline void helper(int n) noexcept nogil:
    pass
'''


def test_functions_are_found_with_their_lines() -> None:
    assert parse_functions(PLANTED) == {
        "Counter.add": Lines(6, 9),
        "Counter.total": Lines(12, 13),
        "helper": Lines(16, 17),
    }


def test_a_planted_call_is_counted_and_a_reference_count_is_not() -> None:
    c_text = """
  /* "src_pyx/cajun_fast/_core/x.pyx":6
 *     cdef int add(self):   # <<<<<<<<<<<<<<
 */
  Py_INCREF(a); __Pyx_GOTREF(a); n = PyList_GET_SIZE(a);
  if (unlikely(PyList_Append(a, b) < 0)) __Pyx_AddTraceback("x");

  /* function exit code */
  __Pyx_AddTraceback("x", 1, 2, 3);
}

  /* "src_pyx/cajun_fast/_core/x.pyx":20
 *     another()
 */
  PyObject_Call(f);
"""
    assert calls_between(c_text, "cajun_fast/_core/x.pyx", Lines(6, 9)) == [
        "PyList_Append",
        "__Pyx_AddTraceback",
    ]
