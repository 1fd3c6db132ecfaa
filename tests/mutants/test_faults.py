"""The faults of faults.toml can still be made: `make mutants` makes them, by hand, for it takes minutes."""

from __future__ import annotations

import pytest

from tests.mutants.run import FAULTS, ROOT, Fault

pytestmark = pytest.mark.skipif(not (ROOT / "src_pyx").is_dir(), reason="only in a checkout")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_a_fault_changes_stands_once_in_its_file(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.old != fault.new
    assert all((ROOT / test).exists() for test in fault.tests)
