import math

from mbtrain.trackers.values import epoch_values, values


def test_null_is_a_number_that_is_not_finite():
    assert math.isnan(values({"iteration": 3, "train/loss": None})["train/loss"])


def test_means_of_an_epoch_have_names_of_their_own():
    assert epoch_values({"train/loss": 1.0, "time/epoch_s": 2.0}) == {
        "train/loss_epoch": 1.0,
        "time/epoch_s_epoch": 2.0,
    }


def test_validation_and_axes_keep_their_names():
    row = {"iteration": 9, "epoch": 2, "samples_seen": 90, "val/loss": 1.0}
    assert epoch_values(row) == row
