"""A coverage plugin: Cython's, told where this build keeps the generated C. Used by `make coverage`.

Cython.Coverage reads from the C which lines of a .pyx can run, and expects it beside the .pyx; here it lies
in the build tree of the coverage variant. The C names its sources relative to src_pyx, so that folder has to
be on sys.path.
"""

from pathlib import Path
from typing import Any

from Cython.Coverage import Plugin

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src_pyx"
GENERATED = ROOT / "build" / "coverage" / "c"


class PyxPlugin(Plugin):
    def _find_source_files(self, filename: str) -> tuple[str | None, str | None]:
        path = Path(filename)
        if not path.is_relative_to(SOURCES):
            return None, None
        c_file = (GENERATED / path.relative_to(SOURCES)).with_suffix(".c")
        return (str(c_file), None) if c_file.exists() else (None, None)


def coverage_init(registry: Any, options: dict[str, str]) -> None:
    plugin = PyxPlugin()
    registry.add_configurer(plugin)
    registry.add_file_tracer(plugin)
