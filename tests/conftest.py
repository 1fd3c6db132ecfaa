"""What holds for every test: the package that is tested, the event loop, how hard Hypothesis tries."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# The machines are shared and slow at times: a deadline would fail tests that are right.
# HYPOTHESIS_PROFILE=thorough takes a long look; the sanitizers run ten times slower and take the brief one.
hypothesis.settings.register_profile("default", deadline=None, max_examples=100)
hypothesis.settings.register_profile("brief", deadline=None, max_examples=20)
hypothesis.settings.register_profile(  # that something fails is all that counts: tests/mutants
    "unshrunk", deadline=None, max_examples=100, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=3000)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)


def _settle_which_package_is_tested() -> None:
    """One package for this process and for all that it starts.

    `python -m pytest` puts the checkout before everything else, also before an installed wheel and before the
    package of a build variant on PYTHONPATH. Here it comes last: tested when nothing else offers the package.
    """
    here = [entry for entry in sys.path if Path(entry or ".").resolve() == ROOT]
    sys.path[:] = [entry for entry in sys.path if entry not in here] + [str(ROOT)]
    spec = importlib.util.find_spec("cajun_fast")
    if spec is None or not spec.submodule_search_locations:
        raise pytest.UsageError("there is no cajun_fast to test; make build compiles it in this checkout")
    parent = str(Path(next(iter(spec.submodule_search_locations))).parent)
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [parent, *(path for path in others if path and path != parent)]
    )
    os.environ["PYTHONSAFEPATH"] = "1"


_settle_which_package_is_tested()

# Several nodes stand in one process here, each with a thread for its store, beside a loop that is busy for the sake of
# the test. Each step of sqlite waits for the GIL: at Python's 5 ms their leases would run out, as those of processes
# do not.
sys.setswitchinterval(0.0005)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["uvloop", "asyncio", "both"],
        default="uvloop",
        help="the event loop that the asynchronous tests run on (default: uvloop)",
    )


def _loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Those of --loop; a test that names its own, @pytest.mark.asyncio(loop_factories=[…]), gets those."""
    factories = _loop_factories()
    chosen = config.getoption("--loop")
    marker = item.get_closest_marker("asyncio")
    if chosen == "both" or (marker and "loop_factories" in marker.kwargs):
        return factories
    return {chosen: factories[chosen]} if chosen in factories else factories
