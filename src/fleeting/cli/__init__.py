"""The command ``fleeting``: thin commands, each calls one library function.

Imports of torch, pandas and scikit-learn stay inside the commands, so that ``--help`` and ``list`` are quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fleeting import __version__
from fleeting.cli import _clips, _magnify, _runs, _trials
from fleeting.cli._console import app, errors
from fleeting.errors import UserError

__all__ = ["app", "main"]
_COMMANDS = (_runs, _clips, _trials, _magnify)  # importing them is what adds their commands
_INTERRUPTED = 130
_RESUMABLE = "what is finished is kept: run the same command again to go on"


def main() -> None:
    """Runs the command; a `UserError` is one line on standard error and exit code 2, Ctrl-C is 130."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        # typer's own usage errors derive from click's ClickException, which typer may vendor
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            if error.format_message():  # empty where the help was printed for want of arguments
                _fail(error.format_message())
            sys.exit(2)
        raise
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        resumable = sys.argv[1:2] in (["run"], ["demo"], ["data"], ["prepare"], ["search"])
        errors.print(f"[yellow]stopped; {_RESUMABLE if resumable else 'nothing was written'}[/]")
    sys.exit(code or 0)


def _fail(message: str) -> None:
    errors.print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
