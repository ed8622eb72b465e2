"""`python -m flexavatar`: the same as the `flexavatar` command."""

from flexavatar.cli import run

run()
