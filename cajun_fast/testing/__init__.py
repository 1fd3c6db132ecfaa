"""Helpers for those who build on the package: contract suites, a store server for tests, a proxy between nodes."""
