"""`python -m stemforge`."""

from stemforge.cli.main import run

run()
