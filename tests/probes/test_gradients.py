"""The gradients probe: its numbers against the weights and gradients that a run really had."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import rows

EACH = ["probe=gradients", "probe.gradients.every=1it", "trainer.precision=64-true", "duration=3it"]
PLAIN = ["optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0"]


def test_update_ratio_is_learning_rate_times_gradient_over_weights(train: Callable[..., Any]) -> None:
    one, two = (rows(train(*EACH, *PLAIN, f"optimizer.lr={lr}", "duration=1it").run_dir)[0] for lr in (0.1, 0.2))
    assert two["update/ratio"] == pytest.approx(2 * one["update/ratio"], rel=1e-9)
    ratios = [one[f"update/ratio/layers.{layer}"] / one[f"gradient/norm/layers.{layer}"] for layer in (0, 2)]
    whole = one["update/ratio"] / one["gradient/norm"]
    assert min(ratios) > whole  # a layer's weights are smaller than all of them


def test_layers_norms_make_the_whole(train: Callable[..., Any]) -> None:
    for row in rows(train(*EACH).run_dir):
        layers = [row[f"gradient/norm/layers.{layer}"] for layer in (0, 2)]
        assert row["gradient/norm"] == pytest.approx(sum(one**2 for one in layers) ** 0.5, rel=1e-12)


def test_the_norm_is_that_of_the_clipped_gradient(train: Callable[..., Any]) -> None:
    for row in rows(train(*EACH, "optimizer.clip_norm=0.01").run_dir):
        assert row["gradient/norm"] == pytest.approx(0.01, rel=1e-3)


def test_diversity_times_samples_is_one_plus_the_noise_scale(train: Callable[..., Any]) -> None:
    both = ["probe=[gradients,noise_scale]", "probe.noise_scale.every=1it", "batch.size=12", "batch.micro_size=1"]
    for row in rows(train(*EACH[1:], *both).run_dir):
        # noise/* are unbiased; of the mini-batch as a population: S (1 - 1/n) over |g|^2.
        mean_sq = row["noise/gradient_sq"] + row["noise/trace"] / 12
        scale = row["noise/trace"] * (1 - 1 / 12) / mean_sq
        assert 12 * row["gradient/diversity"] == pytest.approx(1 + scale, rel=1e-9)
        assert row["gradient/norm_test"] == pytest.approx(row["noise/trace"] / 12 / mean_sq, rel=1e-9)


def test_a_mini_batch_in_one_piece_has_no_parts_unless_asked(train: Callable[..., Any]) -> None:
    assert "gradient/cosine" not in rows(train(*EACH).run_dir)[0]
    own = rows(train(*EACH, "probe.gradients.parts=4").run_dir)
    micro = rows(train(*EACH, "batch.micro_size=8").run_dir)
    for name in ("cosine", "diversity", "norm_test", "inner_product_test"):
        key = f"gradient/{name}"
        assert [row[key] for row in own] == pytest.approx([row[key] for row in micro], rel=1e-9)


def test_a_preset_is_a_list_whose_times_may_be_set(train: Callable[..., Any]) -> None:
    table = rows(
        train("probe=cheap", "probe.noise_scale.every=2it", "probe.gradients.every=3it", "duration=6it").run_dir
    )
    assert [row["iteration"] for row in table if "noise/scale" in row] == [2, 4, 6]
    assert [row["iteration"] for row in table if "update/ratio" in row] == [3, 6]
