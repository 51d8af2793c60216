"""The order made ahead: the same orders, made in another thread where that is safe and pays."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbtrain.data import order_ahead
from mbtrain.data.order_ahead import WORTH_A_THREAD, OrderAhead
from mbtrain.plan.order import Reshuffle
from mbtrain.planning import CheckedOrder
from tests.training.test_resume import check_same_run, train_with_kills

SIZE = WORTH_A_THREAD
HERE = threading.get_ident()


class Watched(Reshuffle):
    """Keeps which epoch was drawn in which thread."""

    def __init__(self, num_samples: int) -> None:
        super().__init__(num_samples=num_samples, seed=3)
        self.drawn: list[tuple[int, bool]] = []

    def __call__(self, epoch: int) -> Any:
        self.drawn.append((epoch, threading.get_ident() == HERE))
        return super().__call__(epoch)


def run(ahead: OrderAhead, epochs: range) -> list[np.ndarray]:
    try:
        return [ahead(epoch, is_last=epoch == epochs[-1]) for epoch in epochs]
    finally:
        ahead.close()


def order_of(size: int, monkeypatch: pytest.MonkeyPatch, *, module: str = "mbtrain.plan.order") -> CheckedOrder:
    monkeypatch.setattr(Watched, "__module__", module)
    return CheckedOrder(Watched(size), size, size)


def test_next_epoch_s_order_is_made_elsewhere_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of(SIZE, monkeypatch)
    for epoch, made in zip(range(2, 6), run(OrderAhead(order), range(2, 6)), strict=True):
        assert np.array_equal(made, Reshuffle(num_samples=SIZE, seed=3)(epoch))
    assert order.draw.drawn == [(2, True), (3, False), (4, False), (5, False)]  # pyright: ignore


@pytest.mark.parametrize(("size", "module"), [(SIZE - 1, "mbtrain.plan.order"), (SIZE, "somebody.s")])
def test_a_short_order_or_a_user_s_is_made_here(monkeypatch: pytest.MonkeyPatch, size: int, module: str) -> None:
    order = order_of(size, monkeypatch, module=module)
    run(OrderAhead(order), range(3))
    assert order.draw.drawn == [(0, True), (1, True), (2, True)]  # pyright: ignore


def test_epoch_that_is_begun_again_has_the_next_one_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of(SIZE, monkeypatch)
    ahead = OrderAhead(order)
    for epoch in (0, 0, 0, 1):
        assert np.array_equal(ahead(epoch, is_last=False), Reshuffle(num_samples=SIZE, seed=3)(epoch))
    ahead.close()
    made = [one for one, is_here in order.draw.drawn if not is_here]  # pyright: ignore
    assert made.count(1) == 1
    # It can be asked again after that.
    assert len(ahead(5, is_last=False)) == SIZE
    ahead.close()


def test_what_it_raises_comes_with_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = OrderAhead(order_of(SIZE, monkeypatch))
    monkeypatch.setattr(Reshuffle, "__call__", lambda self, epoch: np.arange(SIZE) if epoch == 0 else 1 / 0)
    assert len(ahead(0, is_last=False)) == SIZE
    with pytest.raises(ZeroDivisionError):
        ahead(1, is_last=False)
    ahead.close()


GROWS = ["batch_schedule=stepwise", "batch_schedule.at='600sp:100 1500sp:150'", "batch.size=50"]


@pytest.mark.parametrize("options", [[], GROWS, ["dataset.workers=0", *GROWS]], ids=["memory", "grows", "loader"])
def test_a_run_is_the_same_with_it_and_over_a_cut(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    options = ["duration=3ep", "checkpoint.every=2it", *options]
    plain = train(*options)
    monkeypatch.setattr(order_ahead, "WORTH_A_THREAD", 1)
    # The last kill within the second epoch: the third's order was being made.
    check_same_run(train_with_kills(train, tmp_path / "cut", [3, 25], options), plain)
    for one in [one for one in threading.enumerate() if one.name.startswith("mbtrain-order")]:
        one.join(timeout=10)
        assert not one.is_alive()
