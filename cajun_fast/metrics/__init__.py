"""Metrics: what a node counts and measures, its picture at one moment, and the ways out of the process.

Laws: importing this imports no exporter: those need packages of their own.
"""
