"""The operator's commands, a file each. ``cli`` puts them together.

Laws: a command joins the cluster as a client member, asks through ``Operations``, prints, and leaves; standard
output has the answer (``--json``: one JSON value) and nothing else. Imports that cost time are made when a
command runs.
"""
