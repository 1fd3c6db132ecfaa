"""One process of one contestant: ``python -m cajun_fast.management.bench.worker ROLE CONTESTANT OPTIONS``.

Speaks lines of JSON: a first one with its address when it is ready, then one for each command on its
standard input. Laws: ends with its standard input, so that no process is left when the one that started it
is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from importlib import import_module
from typing import Any

from cajun_fast.management.bench import measure
from cajun_fast.management.bench.contestant import Receiver, Sender

# Contestant -> module and the stem of its classes. Named as text: a worker loads only what it measures.
KINDS = {
    "engine": ("engine", "Engine"),
    "frames": ("floors", "Frame"),
    "echo": ("raw", "Echo"),
    "pump": ("raw", "Pump"),
    "zmq": ("zeromq", "Zmq"),
}


def class_of(kind: str, role: str) -> Any:
    """The Sender or Receiver of a contestant."""
    module, stem = KINDS[kind]
    return getattr(import_module(f"cajun_fast.management.bench.{module}"), stem + role)


def say(line: Any) -> None:
    """One line to whoever started this process."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def end_with_input() -> None:
    """For a process that takes no commands."""
    while sys.stdin.readline():
        pass
    os._exit(0)


async def receive(receiver: Receiver) -> None:
    """Serve until the input ends."""
    say({"address": await receiver.open()})
    threading.Thread(target=end_with_input, daemon=True).start()
    await asyncio.Event().wait()


async def commands(objects: dict[str, Any]) -> None:
    """Run what the lines say: the name of a coroutine function, its arguments."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            say(await objects[command.pop("do")](**command))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)


async def send(sender: Sender) -> None:
    """Connect to the address in the first line, then do what is said."""
    loop = asyncio.get_running_loop()
    await sender.open(json.loads(await loop.run_in_executor(None, sys.stdin.readline)))
    say({"address": None})

    def bound(run: Any) -> Any:
        return lambda **arguments: run(sender, **arguments)

    await commands({name: bound(run) for name, run in measure.RUNS.items()})


async def local(options: dict[str, Any]) -> None:
    """Everything within one process."""
    from cajun_fast.management.bench.local import Local

    worker = Local(options)
    await worker.open()
    say({"address": None})
    await commands({"tell": worker.tell, "idle_actors": worker.idle_actors, "part": worker.part})


async def main(role: str, kind: str, options: dict[str, Any]) -> None:
    """The role's life."""
    if role == "receive":
        await receive(class_of(kind, "Receiver")(options))
    elif role == "send":
        await send(class_of(kind, "Sender")(options))
    else:
        await local(options)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
