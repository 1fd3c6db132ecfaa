"""For tests: a cluster in one process (``members``, and the pytest fixture ``cluster``), probes, a network and a store
with faults, time that is turned; contract suites for stores, a store server, a proxy between nodes.
"""
