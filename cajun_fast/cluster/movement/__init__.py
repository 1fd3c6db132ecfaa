"""Moving actors that run: one at a time, all of a node, a whole cluster.

The picture is in docs/movement.md. Rooms: ``departure`` and ``arrival`` are the two halves of a hand-off as
machines without I/O, ``source`` and ``destination`` perform them; ``luggage`` is what travels, ``packing``
takes it out of actors and puts it into others; ``mover`` is the system actor by which nodes speak of moves;
``steering`` is what the manager offers.
"""
