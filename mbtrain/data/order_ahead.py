"""The next epoch's order, made while the mini-batches of this one are handed out."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from mbtrain.plan.order import Indices

# A shorter order is made faster than it is handed over.
WORTH_A_THREAD = 10_000


class OrderAhead:
    """`order(epoch)`, asked for one epoch ahead in a thread of its own where it is one of ours.

    Two orders are held then, of 8 bytes a sample each.
    """

    def __init__(self, order: Callable[[int], Indices]) -> None:
        self._order = order
        self._thread: ThreadPoolExecutor | None = None
        self._made: tuple[int, Future[Indices]] | None = None

    def __call__(self, epoch: int, *, is_last: bool) -> Indices:
        """The order of `epoch`; unless that `is_last`, the next one is begun."""
        made = self._made
        order = made[1].result() if made is not None and made[0] == epoch else self._order(epoch)
        is_worth_it = len(order) >= WORTH_A_THREAD and getattr(self._order, "is_ours", False)
        # One that is made already is kept: the same epoch may be begun again.
        if is_worth_it and not is_last and (made is None or made[0] != epoch + 1):
            if made is not None:
                made[1].cancel()
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="mbtrain-order")
            self._made = epoch + 1, self._thread.submit(self._order, epoch + 1)
        return order

    def close(self) -> None:
        """End the thread once it has made what it is at; nobody waits for it."""
        self._made = None
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
