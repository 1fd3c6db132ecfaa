"""The compiled ground floor: machines without sockets, tasks or clocks; time is an argument, in nanoseconds.

Each module is written in ``src_pyx/cajun_fast/_core``: its ``.pxd`` there tells the design, its ``.pyi`` here
the types.

    mailbox      what waits for one actor, in order
    locations    actor id -> node: bounded, expiring, and entries that say when they were dropped
    breaker      leave a failing node alone for a while: closed, open, half-open
    rendezvous   which node for a key, the same answer everywhere
    batch        what leaves together: by count, bytes and age
"""
