"""Signals: finish the iteration, save, end. A second Ctrl-C ends at once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytorch_lightning as pl

HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Interrupted(BaseException):
    """Training was stopped by a signal, after a checkpoint; the exit code is 128 + signal."""

    def __init__(self, number: int, *, asks_for_requeue: bool = False) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code, self.asks_for_requeue = 128 + number, asks_for_requeue


class Signals:
    """Notes the first signal in `received`, which the seam reads; `install` and `restore` frame the training."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._answer = ""
        self._before = {number: signal.getsignal(number) for number in HEEDED}

    def install(self) -> None:
        """Take over; only the main thread may, elsewhere signals stay as they are."""
        if threading.current_thread() is threading.main_thread():
            for number in HEEDED:
                signal.signal(number, self._note)

    def restore(self) -> None:
        """Give back what was there when this was made."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @contextmanager
    def answering(self, line: str) -> Iterator[None]:
        """For the length of a block, which takes long, say `line` to a first signal."""
        self._answer = line
        try:
            yield
        finally:
            self._answer = ""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self.received is None:
            self.received = number
            if self._answer:
                print(self._answer, file=sys.stderr, flush=True)


class HeedSignals(pl.Callback):
    """Takes the signals over in place of Lightning's own handlers, which end a run with exit code 0, no checkpoint."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before Lightning would set its handlers: a signal that comes before the first iteration is heeded too."""
        trainer._signal_connector.register_signal_handlers = lambda: None
        self._signals.install()
