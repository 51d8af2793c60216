"""The arms of a case beside each other: columns, gaps, the order of their numbers."""

import numpy as np
import pytest

from mbtrain.analysis.arms import columns_of, order_panel
from mbtrain.analysis.charts import Lines
from mbtrain.analysis.trajectory import Trajectory

NAN = float("nan")


def ended(loss: float, **columns: float) -> Trajectory:
    return Trajectory((1,), (1,), (loss,), {name.replace("_", "/"): value for name, value in columns.items()})


def test_gap_is_above_zero_where_the_test_data_do_worse() -> None:
    runs = {"run/a": ended(0.4, test_loss=0.5, train_loss=0.3, test_accuracy=0.8, train_accuracy=0.95)}
    names = ["test/loss", "train/loss", "test/accuracy", "train/accuracy"]
    found = columns_of({"runs": {"a": ["run/a"]}}, names, runs)
    assert found["test/loss - train/loss"]["a"] == pytest.approx([0.2])
    assert found["train/accuracy - test/accuracy"]["a"] == pytest.approx([0.15])


def test_run_that_diverged_counts_and_a_column_that_a_run_lacks_does_not() -> None:
    runs = {"run/a": ended(0.4, test_loss=0.5), "run/b": ended(NAN), "run/c": ended(0.4)}
    found = columns_of({"runs": {"a": list(runs)}}, ["test/loss", "noise/scale"], runs)
    assert list(found) == ["test/loss"] and len(found["test/loss"]["a"]) == 2


def test_arms_stand_in_the_order_of_their_numbers_and_the_others_are_level() -> None:
    losses = {"group_16": [0.3, 0.5], "none": [0.6, 0.6], "group_2": [0.2, 0.2], "group_4": [0.9, 0.7]}
    panel = order_panel("cnn", {"validation loss": losses}, dict.fromkeys(losses, 128))
    assert panel is not None
    (chart,) = panel.charts
    assert isinstance(chart, Lines) and chart.x_label == "group"
    group, level = chart.series
    assert group.x.tolist() == [2, 4, 16] and group.y == pytest.approx([0.2, 0.8, 0.4])
    assert level.name == "none" and level.x.tolist() == [2, 16] and np.ptp(level.y) == 0


def test_numbers_that_are_batch_sizes_are_called_so_and_two_are_no_order() -> None:
    losses = {"b2": [0.1], "b8": [0.2], "b32": [0.3]}
    panel = order_panel("mlp", {"validation loss": losses}, {"b2": 2, "b8": 8, "b32": 32})
    assert panel is not None and panel.charts[0].x_label == "mini-batch"
    del losses["b32"]
    assert order_panel("mlp", {"validation loss": losses}, {"b2": 2, "b8": 8}) is None
