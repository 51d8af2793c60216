import pytest
import torch

from mbtrain.data.normalize import Normalize, fit_normalize, is_image, unit_range

F64 = torch.float64


def fit(x, size=7):
    return fit_normalize(x.split(size), dtype=F64)


@pytest.mark.parametrize("size", [1, 7, 25, 50])
def test_features_get_mean_0_and_spread_1_however_they_are_read(size):
    x = torch.randn(50, 3, dtype=F64) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 5.0, -3.0])
    result = fit(x, size)(x)
    assert torch.allclose(result.mean(0), torch.zeros(3, dtype=F64), atol=1e-12)
    assert torch.allclose(result.std(0, correction=0), torch.ones(3, dtype=F64), atol=1e-12)


def test_images_have_one_constant_a_channel():
    x = torch.randn(20, 3, 4, 5, dtype=F64)
    normalize = fit(x)
    assert normalize.mean.shape == (3, 1, 1)
    assert torch.allclose(normalize.mean.flatten(), x.mean((0, 2, 3)), atol=1e-12)
    assert torch.allclose(normalize.std.flatten(), x.std((0, 2, 3), correction=0), atol=1e-12)


def test_samples_of_two_dimensions_share_one_constant():
    x = torch.randn(20, 4, 5, dtype=F64)
    normalize = fit(x)
    assert normalize.mean.shape == ()
    assert torch.allclose(normalize.std, x.std(correction=0), atol=1e-12)


def test_a_feature_that_never_changes_gets_the_scale_1():
    # 0.1 has no exact binary form, so the variance that is computed of it need not be 0.
    x = torch.stack([torch.full((50,), 0.1, dtype=F64), torch.arange(50, dtype=F64)], 1)
    assert float(fit(x).std[0]) == 1.0


def test_whole_numbers_are_normalised_as_numbers():
    x = torch.tensor([[1], [3]])
    assert torch.equal(fit(x)(x), torch.tensor([[-1.0], [1.0]], dtype=F64))


def test_a_large_mean_cancels_before_rounding_to_float32():
    dates = 1.7e9 + torch.arange(10, dtype=F64)[:, None]
    result = fit_normalize([dates], dtype=torch.float32)(dates)
    expected = (dates - dates.mean()) / dates.std(correction=0)
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), expected, atol=1e-6)


def test_pixels_go_to_the_unit_range():
    pixels = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert unit_range(torch.float32)(pixels).tolist() == [[[0.0, 1.0]]]


def test_uint8_with_two_dimensions_a_sample_are_images():
    assert is_image(torch.zeros(1, 2, 2, dtype=torch.uint8))
    assert not is_image(torch.zeros(1, 2, dtype=torch.uint8))
    assert not is_image(torch.zeros(1, 2, 2))


def test_the_constants_are_saved_with_the_module():
    normalize = fit(torch.randn(9, 2, dtype=F64))
    other = Normalize(torch.zeros(2), torch.ones(2), dtype=F64)
    other.load_state_dict(normalize.state_dict())
    assert torch.equal(other.mean, normalize.mean)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_bits_of_the_cpu():
    pixels = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    normalize = fit_normalize([pixels], dtype=torch.float32)
    on_cpu = normalize(pixels)
    assert torch.equal(normalize.cuda()(pixels.cuda()).cpu(), on_cpu)
