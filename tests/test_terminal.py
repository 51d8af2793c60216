"""What is written to a terminal that is gone."""

import errno
import io
from typing import Any

import pytest

from mbtrain.terminal import Lasting


class Broken(io.StringIO):
    """Fails with an error number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "gone")

    def flush(self) -> None:
        raise OSError(self.number, "gone")


def test_what_is_written_arrives_and_the_stream_answers_for_itself() -> None:
    inner = io.StringIO()
    stream: Any = Lasting(inner)
    print("a line", file=stream, flush=True)
    assert inner.getvalue() == "a line\n" and not stream.isatty()


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_nothing_is_said_of_a_terminal_that_is_gone(number: int) -> None:
    print("a line", file=Lasting(Broken(number)), flush=True)  # pyright: ignore


def test_a_full_disk_is_told() -> None:
    stream = Lasting(Broken(errno.ENOSPC))
    with pytest.raises(OSError, match="gone"):
        stream.write("a line")
    with pytest.raises(OSError, match="gone"):
        stream.flush()
