"""A chat room: one actor keeps who is in, and tells everybody what is said, on whichever node they are.

python examples/chat_room.py

The room knows its members by their ids. A message from one member reaches each other one in the order in which the room
has handled it, so all of them read the same conversation.
"""

from __future__ import annotations

from typing import Any

import cajun_fast as cf


class Room(cf.Actor):
    """Who is in, in order of arrival."""

    def __init__(self) -> None:
        self.members: dict[str, cf.Pid] = {}

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case {"op": "join", "who": str(who), "at": str(actor_id)}:
                self.members[who] = context.system.pid(actor_id)
                self.tell_all(f"{who} comes in")
            case {"op": "leave", "who": str(who)} if who in self.members:
                del self.members[who]
                self.tell_all(f"{who} goes")
            case {"op": "say", "who": str(who), "text": str(text)} if who in self.members:
                self.tell_all(f"{who}: {text}")
            case {"op": "who"}:
                return list(self.members)
            case _:
                raise ValueError(f"the room does not understand {message!r}")

    def tell_all(self, line: str) -> None:
        for member in self.members.values():
            member.tell(line)


class Member(cf.Actor):
    """Somebody who reads along."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def receive(self, message: Any, context: cf.Context) -> Any:
        if message == {"op": "read"}:
            return self.lines
        self.lines.append(message)
        return None


def node(name: str) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://chat").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def main() -> None:
    async with node("kitchen") as kitchen, node("porch") as porch:
        room = await kitchen.register(Room, "room")
        people = {"ada": kitchen, "boudreaux": porch, "clotilde": porch}
        for who, system in people.items():
            await system.register(Member, f"member-{who}")
            await system.pid("room").ask({"op": "who"})  # the room answers from any node
            system.pid("room").tell({"op": "join", "who": who, "at": f"member-{who}"})
        porch.pid("room").tell({"op": "say", "who": "boudreaux", "text": "the gumbo is ready"})
        porch.pid("room").tell({"op": "leave", "who": "clotilde"})
        await porch.pid("room").ask({"op": "who"})  # behind what boudreaux sent: it was handled
        kitchen.pid("room").tell({"op": "say", "who": "ada", "text": "save me a bowl"})
        print("in the room:", ", ".join(await room.ask({"op": "who"})))
        for line in await kitchen.pid("member-boudreaux").ask({"op": "read"}):
            print("  boudreaux reads:", line)


if __name__ == "__main__":
    cf.run(main())
