"""What doctor says of an etcd server's version."""

from __future__ import annotations

import pytest

from cajun_fast.management.diagnosis import Findings, check_server


@pytest.mark.parametrize(
    ("version", "levels"),
    [
        (None, []),
        ("3.4.23", ["hint"]),
        ("3.5.0", ["bad"]),
        ("3.5.5", ["bad"]),
        ("3.5.6", ["ok"]),
        ("3.6.0-rc.1", ["ok"]),
        ("3.5.21", ["ok"]),
    ],
)
def test_an_etcd_that_can_lose_data_is_bad_and_an_old_one_a_hint(
    version: str | None, levels: list[str]
) -> None:
    findings = Findings()
    check_server(version, findings)
    assert [each["level"] for each in findings.plain()] == levels
    assert all(each["level"] == "ok" or "3.5.6" in each["remedy"] for each in findings.plain())
