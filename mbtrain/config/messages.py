"""What Hydra and OmegaConf complain of, as one line with key, value, what is allowed and the nearest name."""

import difflib
import re
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], *, prefix: Iterable[str] = ()) -> str:
    """`; did you mean X?` for the word that is nearest, or nothing.

    >>> nearest("sise", ["size", "micro_size"], prefix=["batch"])
    '; did you mean batch.size?'
    """
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; did you mean {'.'.join([*prefix, close[0]])}?" if close else ""


def one_line(error: BaseException) -> str:
    """The error as one line."""
    return repr(str(error)) + " <<" + type(error).__name__ + " cause " + repr(error.__cause__) + ">> " + str(vars(error))
