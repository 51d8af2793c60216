import pytest
import torch
from torch.nn.functional import pad

from mbtrain.data.augment import augment_of
from mbtrain.training.captured import waiting_for_nothing
from tests.data.conftest import CPU

X = torch.randn(9, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ALL = {"flip": True, "crop": 2, "cutout": 3}


def augment(**wanted):
    return augment_of(wanted, X[:1], CPU)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("wanted", [{"flip": True}, {"crop": 2}, {"cutout": 3}, ALL])
@pytest.mark.parametrize("indices", [[0], [3, 1], [8, 7, 6, 5, 4, 3, 2, 1, 0]])
def test_augmenting_a_part_with_its_draws_equals_the_part_of_the_whole(wanted, indices):
    images = augment(**wanted)
    draws = images.draw(9, generator())
    chosen = torch.tensor(indices)
    part = images.apply(X[chosen], {name: values[chosen] for name, values in draws.items()})
    assert torch.equal(part, images.apply(X, draws)[chosen])


def test_flip_mirrors_left_and_right_where_it_is_drawn():
    draws = {"flip": torch.tensor([0, 1] * 4 + [0])}
    result = augment(flip=True).apply(X, draws)
    assert torch.equal(result[1::2], X[1::2].flip(-1))
    assert torch.equal(result[::2], X[::2])


def test_crop_cuts_a_window_of_the_padded_image():
    draws = {"crop_y": torch.tensor([0, 4, 1] * 3), "crop_x": torch.tensor([3, 0, 2] * 3)}
    result = augment(crop=2).apply(X, draws)
    for image, padded, y, x in zip(result, pad(X, [2] * 4), draws["crop_y"], draws["crop_x"], strict=True):
        assert torch.equal(image, padded[:, y : y + 6, x : x + 8])


def test_flip_comes_before_crop():
    draws = {"flip": torch.ones(9, dtype=torch.long), "crop_y": torch.full((9,), 1), "crop_x": torch.full((9,), 4)}
    flipped_then_cropped = augment(crop=2).apply(X.flip(-1), draws)
    assert torch.equal(augment(flip=True, crop=2).apply(X, draws), flipped_then_cropped)


def test_cutout_zeroes_a_square_around_its_centre():
    draws = {"cutout_y": torch.full((9,), 2), "cutout_x": torch.full((9,), 5)}
    expected = X.clone()
    expected[:, :, 1:4, 4:7] = 0
    assert torch.equal(augment(cutout=3).apply(X, draws), expected)


def test_cutout_at_a_corner_is_clipped():
    draws = {"cutout_y": torch.full((9,), 0), "cutout_x": torch.full((9,), 7)}
    expected = X.clone()
    expected[:, :, :2, 6:] = 0
    assert torch.equal(augment(cutout=3).apply(X, draws), expected)


@pytest.mark.parametrize("wanted", [{"cutout": 3}, ALL])
def test_augmentation_leaves_its_input_alone(wanted):
    x = torch.ones_like(X)
    images = augment(**wanted)
    images.apply(x, images.draw(9, generator()))
    assert torch.equal(x, torch.ones_like(X))


def test_the_same_generator_draws_the_same():
    first, second = (augment(**ALL).draw(9, generator(3)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_generator_means_the_default_one():
    torch.manual_seed(5)
    first = augment(**ALL).draw(9, None)
    second = augment(**ALL).draw(9, generator(5))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_draws_are_one_number_a_sample():
    assert {tuple(values.shape) for values in augment(**ALL).draw(9, generator()).values()} == {(9,)}


def test_draws_cover_exactly_their_ranges():
    draws = augment(**ALL).draw(5000, generator())
    bounds = {"flip": 2, "crop_y": 5, "crop_x": 5, "cutout_y": 6, "cutout_x": 8}
    assert {name: sorted(values.unique().tolist()) for name, values in draws.items()} == {
        name: list(range(bound)) for name, bound in bounds.items()
    }


@pytest.mark.parametrize("wanted", [None, [], {}, {"flip": False, "crop": 0, "cutout": None}])
def test_nothing_asked_for_is_no_augmentation(wanted):
    assert augment_of(wanted, torch.zeros(1, 2), CPU) is None


@pytest.mark.parametrize("wanted", ["crop", ["crop"], {"crop": True}])
def test_a_name_alone_takes_the_usual_size(wanted):
    assert augment_of(wanted, torch.zeros(1, 3, 32, 32), CPU).crop == 4
    assert augment_of(["cutout"], torch.zeros(1, 3, 32, 32), CPU).cutout == 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_augmentation_on_a_gpu_waits_for_nothing_and_gives_the_bits_of_the_cpu():
    device = torch.device("cuda")
    images, x = augment_of(ALL, X[:1], device), X.to(device)
    images.apply(x, images.draw(9, None))  # whatever is set up once
    with waiting_for_nothing(device):
        draws = images.draw(9, None)
        result = images.apply(x, draws)
    on_cpu = augment(**ALL).apply(X, {name: values.cpu() for name, values in draws.items()})
    assert torch.equal(result.cpu(), on_cpu)
