"""The one exception whose message is meant for the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend.

    The message is one line in three parts: what was wanted, what was found, what to do. The command line
    prints it without a traceback and exits with code 2.
    """


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint for a mistyped name: ``"; did you mean 'x'?"``, or the list of the choices, or nothing."""
    known = list(choices)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
