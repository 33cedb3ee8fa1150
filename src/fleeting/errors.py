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


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of neighbours in rising numbers, as (first, last): 1, 2, 3, 7 gives (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in map(int, numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def ranges(runs: Iterable[tuple[int, int]]) -> str:
    """Runs in words: "1 to 3, 7"."""
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)
