"""The nearest of some words, for a message."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], *, prefix: Iterable[str] = ()) -> str:
    """`; did you mean X?` for the word that is nearest, or nothing.

    >>> nearest("sise", ["size", "micro_size"], prefix=["batch"])
    '; did you mean batch.size?'
    """
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {'.'.join([*prefix, close[0]])}?" if close else ""
