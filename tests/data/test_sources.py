import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from mbtrain.data.normalize import unit_range
from mbtrain.data.sources import CHUNK_SIZE, DatasetSource, MemorySource
from mbtrain.data.splits import Arrays
from mbtrain.training.captured import waiting_for_nothing
from tests.data.conftest import CPU

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


class Samples(Dataset):
    def __init__(self, give):
        self.give = give

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.give(index)


class ManySamples(Samples):
    def __getitem__(self, index):
        raise AssertionError("one by one")

    def __getitems__(self, indices):
        return [self.give(index) for index in indices]


def source(dataset, indices=range(10), normalize=None, dtype=torch.float64):
    return DatasetSource(dataset, np.array(indices), normalize=normalize or nn.Identity(), dtype=dtype, device=CPU)


def test_memory_gathers_by_index():
    x, y = MemorySource(X, Y, np.arange(len(X))).gather(torch.tensor([3, 1, 3]))
    assert torch.equal(x, X[[3, 1, 3]])
    assert y.tolist() == [3, 1, 3]


def test_memory_slices_without_a_copy():
    x, y = MemorySource(X, Y, np.arange(len(X))).slice(2, 5)
    assert x.data_ptr() == X[2].data_ptr()
    assert y.tolist() == [2, 3, 4]


def test_positions_count_within_the_part():
    _, y = source(Arrays(X, Y), [9, 7, 5]).fetch([2, 0])
    assert y.tolist() == [5, 9]


@pytest.mark.parametrize("kind", [Samples, ManySamples])
def test_a_dataset_is_read_at_the_same_positions(kind):
    x, y = source(kind(lambda index: (X[index], index)), [9, 7, 5]).fetch([2, 0])
    assert torch.equal(x, X[[5, 9]])
    assert y.tolist() == [5, 9]


def test_a_dict_of_input_and_target_is_a_pair():
    x, y = source(Samples(lambda index: {"input": X[index], "target": index})).fetch([4])
    assert torch.equal(x, X[[4]])
    assert y.tolist() == [4]


def test_in_another_dict_all_but_the_target_is_the_input():
    x, y = source(Samples(lambda index: {"ids": index, "mask": X[index], "target": 0})).fetch([4])
    assert x.keys() == {"ids", "mask"}
    assert y.tolist() == [0]


def test_floats_get_the_dtype_of_training_and_whole_numbers_int64():
    dataset = Samples(lambda index: ({"ids": np.int32(index), "x": np.float32(index)}, 0.5))
    x, y = source(dataset).convert(source(dataset).fetch([1, 2]))
    assert (x["ids"].dtype, x["x"].dtype, y.dtype) == (torch.int64, torch.float64, torch.float64)


def test_conversion_normalises_the_input_only():
    pixels = torch.full((10, 1, 2, 2), 255, dtype=torch.uint8)
    x, y = source(Arrays(pixels, Y), normalize=unit_range(torch.float64)).convert((pixels, Y))
    assert torch.equal(x, torch.ones(10, 1, 2, 2, dtype=torch.float64))
    assert torch.equal(y, Y)


@pytest.mark.parametrize("size", [1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_loading_gives_the_samples_of_the_part_in_order(size):
    arrays = Arrays(torch.randn(size, 3, dtype=torch.float64), torch.arange(size))
    indices = np.random.default_rng(0).permutation(size)
    loaded = source(arrays, indices).load()
    assert torch.equal(loaded.x, arrays.x[indices])
    assert loaded.y.tolist() == indices.tolist()


def test_a_worker_gets_no_constants():
    received = pickle.loads(pickle.dumps(source(Arrays(X, Y), normalize=unit_range(torch.float64))))
    assert received.normalize is None
    assert torch.equal(received.fetch([1])[0], X[[1]])


def test_moving_the_models_normalisation_leaves_the_sources_alone():
    normalize = unit_range(torch.float64)
    read = source(Arrays(X, Y), normalize=normalize)
    normalize.to("meta")
    assert read.normalize.mean.device == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_mini_batch_on_a_gpu_waits_for_nothing_and_has_the_bits_of_the_cpu():
    device, pixels = torch.device("cuda"), torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8)
    options = {"normalize": unit_range(torch.float32), "dtype": torch.float32}
    read, on_cpu = (DatasetSource(Arrays(pixels, Y), np.arange(10), device=place, **options) for place in (device, CPU))
    memory = read.load()
    batch, chosen = tuple(tensor.pin_memory() for tensor in read.fetch([1, 4])), torch.tensor([1, 4], device=device)
    read.convert(batch)  # whatever is set up once
    with waiting_for_nothing(device):
        results = read.convert(batch), memory.gather(chosen)
    expected = on_cpu.convert(on_cpu.fetch([1, 4]))
    for result in results:
        assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in zip(result, expected, strict=True))
