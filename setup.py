"""Hands the extension modules over to CMake. What the package is stands in pyproject.toml."""

from setuptools import setup

setup(cmake_source_dir=".")
