"""The net whose first layer whitens patches: what that layer does, that it is not trained, how the rest starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mbtrain
from mbtrain import first_weights
from mbtrain.assembly import assemble
from mbtrain.models.whitened_cnn import Shift, WhitenedCnn, whitening
from mbtrain.plan.refused import Refused
from tests.composing import composed
from tests.conftest import QUIET, final_weights
from tests.training.test_resume import check_same_run, train_with_kills

ON_DIGITS = ["model=whitened_cnn", "model.widths=[4,8]", "optimizer.lr=0.05"]


def tiny(**options: Any) -> WhitenedCnn:
    torch.manual_seed(0)
    return WhitenedCnn(**{"input_shape": (3, 32, 32), "num_outputs": 10, "widths": [4, 8]} | options)


def pictures(num: int, *shape: int) -> torch.Tensor:
    """With neighbours alike, as in pictures."""
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(1)).cumsum(-1).cumsum(-2)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 7)])
def test_images_of_any_size_give_an_output_a_class(shape: tuple[int, ...]) -> None:
    assert tiny(input_shape=shape)(torch.randn(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(("stride", "smallest"), [(1, 5), (2, 8)])
def test_images_too_small_for_its_blocks_are_refused(stride: int, smallest: int) -> None:
    assert tiny(input_shape=(1, smallest, 9), stride=stride)(torch.randn(2, 1, smallest, 9)).shape == (2, 10)
    with pytest.raises(Refused, match=f"2 blocks needs images .* at least {smallest} pixels, the data's shape is"):
        tiny(input_shape=(1, smallest - 1, 9), stride=stride)


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_white_after_the_first_layer(channels: int) -> None:
    x = 1000 * pictures(600, channels, 6, 5).double()
    patches = nn.functional.conv2d(x, whitening(x)).movedim(1, 0).flatten(1)
    torch.testing.assert_close(
        patches @ patches.T / patches.shape[1], torch.eye(4 * channels).double(), atol=1e-6, rtol=0
    )


def test_its_first_layer_gives_both_signs() -> None:
    model, x = tiny(input_shape=(1, 6, 6)), pictures(20, 1, 6, 6)
    model.start_from(x)
    out = model.whitening(x)
    assert torch.equal(out[:, :4], -out[:, 4:]) and bool(out.any())


def test_a_convolution_starts_as_the_identity_on_the_channels_in_common() -> None:
    first, x = tiny(input_shape=(1, 6, 6), widths=[12]).blocks[1][0], torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(first(x)[:, :8], x)
    assert not torch.allclose(first(x)[:, 8:], torch.tensor(0.0))


def test_mirrored_it_sees_an_image_and_its_mirror_image_as_one_in_evaluation_only() -> None:
    model, x = tiny(mirrored=True), torch.randn(3, 3, 32, 32)
    model.start_from(pictures(10, 3, 32, 32))
    assert not torch.allclose(model(x), model(x.flip(-1)))
    model.eval()
    torch.testing.assert_close(model(x), model(x.flip(-1)))


def test_a_run_whitens_its_training_inputs_and_keeps_those_weights(train: Callable[..., Any]) -> None:
    data = assemble(composed([*QUIET, *ON_DIGITS, "trainer.precision=64-true"]), chosen={}).data.train
    expected = whitening(data.read(range(len(data)))[0])
    result = train(*ON_DIGITS, "trainer.precision=64-true", "duration=1ep")
    weight = final_weights(result.run_dir)["whitening.weight"]
    assert torch.equal(weight, torch.cat([expected, -expected]))
    assert bool(final_weights(result.run_dir)["whitening.bias"].any())


def test_a_loaded_model_has_the_whitening_of_its_run(train: Callable[..., Any]) -> None:
    result = train(*ON_DIGITS, "duration=3it")
    loaded = mbtrain.load(result.run_dir).state_dict()["model.whitening.weight"]
    assert torch.equal(loaded, final_weights(result.run_dir)["whitening.weight"])


def test_given_weights_are_not_whitened_again(train: Callable[..., Any]) -> None:
    first = train(*ON_DIGITS, "duration=3it")
    size = "dataset.train_size=300"  # of other statistics
    again = train(*ON_DIGITS, "duration=3it", size, f"model.weights={first.run_dir}")
    weights = [final_weights(one.run_dir)["whitening.weight"] for one in (first, again)]
    assert torch.equal(*weights)


class Drawn(torch.utils.data.Dataset[Any]):
    """Images with noise of numpy's own."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(np.random.normal(size=(1, 8, 8)).cumsum(-1)).float(), index % 2


DRAWN = [f"dataset._target_={__name__}.Drawn", "trust=[tests]", "+model.num_outputs=2"]


def test_what_a_data_set_draws_for_the_first_weights_is_of_the_seed_alone(train: Callable[..., Any]) -> None:
    hashes = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        np.random.seed(state)
        weights = final_weights(train(*ON_DIGITS, *DRAWN, f"seed={seed}", "duration=1it").run_dir)
        hashes.append(weights["whitening.weight"])
    assert torch.equal(hashes[0], hashes[1]) and not torch.equal(hashes[0], hashes[2])


def test_it_is_shown_no_more_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(WhitenedCnn, "start_from", lambda self, x: seen.append(len(x)))
    monkeypatch.setattr(first_weights, "NUM_SHOWN", 20)
    assemble(composed([*QUIET, *ON_DIGITS]), chosen={})
    assemble(composed([*QUIET, *ON_DIGITS, *DRAWN]), chosen={})
    monkeypatch.setattr(first_weights, "BYTES_SHOWN", 64 * 4 * 7)
    assemble(composed([*QUIET, *ON_DIGITS]), chosen={})
    assemble(composed([*QUIET, *ON_DIGITS, *DRAWN]), chosen={})
    assert seen == [20, 20, 7, 7]


def test_data_that_it_cannot_start_from_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_from(self: WhitenedCnn, x: torch.Tensor) -> None:
        raise RuntimeError("linalg.eigh: did not converge\nand more")

    monkeypatch.setattr(WhitenedCnn, "start_from", start_from)
    with pytest.raises(Refused, match=r"model=WhitenedCnn: start_from does not take the data: linalg.eigh.*converge$"):
        assemble(composed([*QUIET, *ON_DIGITS]), chosen={})


def test_a_cut_run_equals_the_whole_one(train: Callable[..., Any], tmp_path: Path) -> None:
    options = [*ON_DIGITS, "batch.size=200", "duration=2ep", "checkpoint.every=2it", "trainer.channels_last=true"]
    options += ["ema=1ep", "optimizer.clip_norm=1"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [1, 6, 9], options), train(*options))


def test_biases_of_batch_norm_move_speed_squared_times_as_fast_and_it_has_no_weights() -> None:
    x = pictures(8, 3, 32, 32)
    moved = []
    for speed in (1.0, 8.0):
        model = tiny(shift_speed=speed)
        shift = next(one for one in model.modules() if isinstance(one, Shift))
        assert not any(isinstance(one, nn.BatchNorm2d) and one.affine for one in model.modules())
        model(x).square().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        moved.append(shift(torch.zeros(1, 4, 1, 1)).detach())
    torch.testing.assert_close(moved[1], 64 * moved[0])
    assert bool(moved[0].abs().min() > 0)


def test_biases_leave_half_precision_as_it_is() -> None:
    assert Shift(4, 8.0)(torch.zeros(2, 4, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
