"""``python -m ftrl_engine`` is the ``ftrl`` command."""

from ftrl_engine.cli import program

program()
