"""Sharded actors: id -> shard -> node, without a registration and without a look-up."""
