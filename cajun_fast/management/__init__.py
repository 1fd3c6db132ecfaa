"""Operating a node: what an operator types, and what a newcomer looks at first. ``cli`` is the way in.

Laws: nothing below imports this package; the commands use the engine as any program does, by its public face.
"""
