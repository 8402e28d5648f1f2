"""The license of the plugin, by its SPDX expression: all else that a package index shows stands in pyproject.toml.

There it would have to be a table for the setuptools of Python 3.8, which Scipion still runs, and must be a text for
newer ones; here both take it.
"""
from setuptools import setup

setup(license="GPL-3.0-or-later")
