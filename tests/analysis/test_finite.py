"""Values of runs that diverged are never averaged unseen."""

import math

import numpy as np
import pytest

from mbtrain.analysis.finite import all_finite, without_diverged


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_an_error_that_counts_them(bad: float) -> None:
    with pytest.raises(ValueError, match="2 of 3 values are not finite"):
        all_finite([1.0, bad, bad])


def test_diverged_values_are_split_off_in_order_and_counted() -> None:
    kept, num_diverged = without_diverged([3.0, math.nan, 1.0, -math.inf, None, 2.0])  # pyright: ignore
    np.testing.assert_array_equal(kept, [3, 1, 2])
    assert num_diverged == 3
