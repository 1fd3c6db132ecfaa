"""Messaging: links between nodes. Handshake, dialling, heartbeats, faults and serializers over the compiled core.

Knows nothing of actors' insides, stores or placement: it is told which nodes exist and hands messages to inboxes.
"""
