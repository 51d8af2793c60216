"""The nearest of some words, for a message."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], *, prefix: Iterable[str] = ()) -> str:
    """`; did you mean X?` for the word that is nearest, or that alone begins so; or nothing.

    >>> nearest("sise", ["size", "micro_size"], prefix=["batch"])
    '; did you mean batch.size?'
    >>> nearest("accum", ["accumulation", "sampler"])
    '; did you mean accumulation?'
    """
    words = list(words)
    begun = [one for one in words if one.startswith(word)] if word else []
    close = begun if len(begun) == 1 else difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {'.'.join([*prefix, close[0]])}?" if close else ""
