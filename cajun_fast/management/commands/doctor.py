"""``doctor``: looks at everything that keeps clusters from working, and says what to do.

Laws: it changes nothing; one check that fails does not keep the others from being made. Status 0: all is well, or
there are only hints; 1: something is bad.
"""

from __future__ import annotations

import os
from typing import Any

import typer

import cajun_fast as cf
from cajun_fast.management.commands.joining import Door, Json, print_json, with_door

MARKS = {"ok": "[green]ok[/green]  ", "hint": "[yellow]hint[/yellow]", "bad": "[bold red]bad[/bold red] "}


@with_door
def doctor(door: Door, as_json: Json = False) -> None:
    """Check configuration, store, ports, clocks, certificates and versions, and say what to do.

    With --config it checks a node's file too: port, certificates, HTTP settings. Status 1: something is bad.
    """
    from cajun_fast.management.diagnosis import Findings, diagnose
    from cajun_fast.management.logs import hush
    from cajun_fast.management.node import put_on_path

    hush()
    put_on_path(os.getcwd())
    findings = Findings()
    try:
        client = door.load()
        node = cf.ClusterConfig.load(door.config) if door.config is not None else None
    except cf.ConfigError as error:
        findings.bad("configuration", str(error), "correct that setting")
    else:
        cf.run(diagnose(client, node, findings))
    if as_json:
        print_json({"well": findings.well, "findings": findings.plain()})
    else:
        _show(findings.plain())
    raise typer.Exit(0 if findings.well else 1)


def _show(findings: list[dict[str, Any]]) -> None:
    from cajun_fast.management.commands.showing import console

    for each in findings:
        console.print(
            f"{MARKS[each['level']]} [bold]{each['subject']}[/bold]  {each['text']}", soft_wrap=True
        )
        if each["remedy"]:
            console.print(f"       → {each['remedy']}", soft_wrap=True)
