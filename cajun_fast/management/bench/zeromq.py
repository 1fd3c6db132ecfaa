"""pyzmq, as its users write it: a PAIR of sockets, a message a send, msgpack, synchronous (its fast way).

Laws: pyzmq is loaded only here; the extra ``bench`` brings it.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

from cajun_fast.management.bench import sockets
from cajun_fast.management.bench.contestant import Counter, Make, Message, Receiver, Sender, Tally
from cajun_fast.management.bench.floors import codec


def pair() -> Any:
    """A socket."""
    zmq = import_module("zmq")
    return zmq.Context.instance().socket(zmq.PAIR)


class ZmqReceiver(Receiver):
    """A thread that receives; nothing else runs in its process."""

    async def open(self) -> Any:
        socket = pair()
        if self.options["transport"] == "unix":
            address = f"ipc://{sockets.new_path()}"
            socket.bind(address)
        else:
            address = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        threading.Thread(target=serve, args=(socket,), daemon=True).start()
        return address


def serve(socket: Any) -> None:
    """Hand over what comes, for ever."""
    pack, unpack = codec("msgpack")
    recv, handle = socket.recv, Counter().handle
    while True:
        value = handle(unpack(recv()))
        if value is not None:
            socket.send(pack(value))


class ZmqSender(Sender):
    """Blocks while it works: nothing else runs in its process."""

    async def open(self, address: Any) -> None:
        self._socket = pair()
        self._socket.connect(address)
        self._pack, self._unpack = codec("msgpack")

    async def tell_many(self, make: Make, count: int) -> None:
        send, pack = self._socket.send, self._pack
        for i in range(count):
            send(pack(make(i)))

    async def report(self) -> Tally:
        self._socket.send(self._pack({"op": "report"}))
        return Tally(*self._unpack(self._socket.recv()))

    async def ask(self, message: Message) -> Any:
        self._socket.send(self._pack(message))
        return self._unpack(self._socket.recv())

    async def asks(self, make: Make, count: int, in_flight: int) -> None:
        send, recv, pack, unpack = self._socket.send, self._socket.recv, self._pack, self._unpack
        for i in range(count + in_flight):
            if i >= in_flight:
                unpack(recv())
            if i < count:
                send(pack(make(i)))
