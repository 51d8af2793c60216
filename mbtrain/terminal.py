"""The terminal that one writes to, which may be closed while a run goes on."""

import errno
from typing import Any, TextIO

# What a terminal that was closed says, and a pipe without a reader.
GONE = {errno.EIO, errno.EPIPE}


class Lasting:
    """A stream that takes what is written to it for good: nothing is shown once nobody looks, and the run goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except OSError as error:
            if error.errno not in GONE:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
