"""Options of the orders."""

import pytest

from tests.composing import composed
from tests.config.test_check import faults_of


@pytest.mark.parametrize(
    ("order", "option", "line"),
    [
        ("weighted", "replacement=no", "sampler.replacement='no': must be true or false"),
        ("class_sorted", "shuffle_classes=3", "sampler.shuffle_classes=3: must be true or false"),
        ("length_bucketed", "pool_size=0", "sampler.pool_size=0: must be a whole number of at least 1"),
        ("length_bucketed", "bucket_size=2.5", "sampler.bucket_size=2.5: must be a whole number of at least 1, or all"),
        (
            "stratified",
            "pool_size=3",
            "sampler.pool_size=3: mbtrain.plan.stratified.Stratified has no such option; it takes seed, labels",
        ),
    ],
)
def test_wrong_option_of_an_order_is_refused_without_torch(order: str, option: str, line: str) -> None:
    plus = "+" if order == "stratified" else ""
    assert faults_of(f"sampler={order}", f"{plus}sampler.{option}") == [line]


@pytest.mark.parametrize("size", [32, 77, "all"])
def test_a_length_bucket_is_a_mini_batch_unless_said_otherwise(size: int | str) -> None:
    assert composed(["sampler=length_bucketed", f"batch.size={size}"])["sampler"]["bucket_size"] == size
