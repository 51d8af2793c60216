import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from mbtrain.data.digits import Digits
from mbtrain.data.memory import free_bytes
from mbtrain.data.prepare import Options, prepare
from mbtrain.data.sources import DatasetSource, MemorySource
from mbtrain.data.splits import Splits, as_splits
from mbtrain.plan.refused import Refused
from tests.data.conftest import CPU

F64 = torch.float64
X = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=F64) * 3 + 1
Y = torch.arange(100) % 4
PIXELS = torch.randint(0, 256, (100, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def ready(found=(X, Y), *, dtype=F64, **options):
    return prepare(as_splits(found), Options(**options), device=CPU, dtype=dtype)


class Items(Dataset):
    def __init__(self, x, y, **attributes):
        self.x, self.y = x, y
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def all_of(source):
    if isinstance(source, MemorySource):
        return source.x, source.y
    return source.convert(source.fetch(range(len(source))))


def numbered(**options):
    """Data whose only feature is the sample's number, and the numbers in each part."""
    data = ready((torch.arange(100.0)[:, None], Y), **options)
    parts = (data.train, data.validation, data.test)
    return [[] if part is None else all_of(part)[0][:, 0].long().tolist() for part in parts]


def test_a_tenth_is_held_out_where_there_is_no_validation_set():
    data = ready()
    assert (len(data.train), len(data.validation), data.test) == (90, 10, None)
    assert any("held out" in note for note in data.notes)


def test_a_val_fraction_of_0_holds_nothing_out():
    data = ready(val_fraction=0.0)
    assert (len(data.train), data.validation) == (100, None)


def test_a_train_size_keeps_so_many_stratified_and_leaves_what_is_held_out():
    whole, short = numbered(test_fraction=0.2), numbered(test_fraction=0.2, train_size=24)
    assert len(short[0]) == 24 and set(short[0]) < set(whole[0]) and short[1:] == whole[1:]
    assert [sum(number % 4 == label for number in short[0]) for label in range(4)] == [6] * 4
    assert numbered(train_size=90) == numbered()


def test_a_train_size_beyond_what_there_is_is_refused():
    with pytest.raises(Refused, match=r"dataset.train_size=91: there are 90 training samples"):
        ready(train_size=91)


def test_the_test_set_is_cut_before_the_validation_set():
    data = ready(test_fraction=0.2, val_fraction=0.1)
    assert (len(data.train), len(data.validation), len(data.test)) == (72, 8, 20)


def test_every_sample_is_in_exactly_one_part():
    train, validation, test = numbered(test_fraction=0.2)
    assert sorted(train + validation + test) == list(range(100))


def test_a_part_keeps_the_order_of_the_data_set():
    for part in numbered(test_fraction=0.2):
        assert part == sorted(part)


def test_the_test_set_does_not_depend_on_val_fraction():
    assert numbered(test_fraction=0.2, val_fraction=0.3)[2] == numbered(test_fraction=0.2, val_fraction=0)[2]


def test_validation_and_test_are_drawn_from_streams_of_their_own():
    assert numbered(val_fraction=0.2)[1] != numbered(test_fraction=0.2, val_fraction=0)[2]


def test_split_seed_chooses_the_split():
    assert numbered(split_seed=0) == numbered(split_seed=0)
    assert numbered(split_seed=0) != numbered(split_seed=1)


def test_splits_are_stratified_for_classes():
    data = ready(test_fraction=0.2)
    for part in (data.train, data.validation, data.test):
        counts = torch.bincount(all_of(part)[1])
        assert int(counts.max() - counts.min()) <= 1


def test_splits_of_a_dataset_are_stratified_by_its_targets():
    data = ready(Items(X, Y, targets=Y.tolist()), test_fraction=0.2)
    assert torch.bincount(all_of(data.test)[1]).tolist() == [5, 5, 5, 5]


def test_a_dataset_with_targets_is_split_as_its_arrays_are():
    arrays, dataset = ready((X, Y)), ready(Items(X, Y, targets=Y))
    assert torch.equal(all_of(arrays.validation)[0], all_of(dataset.validation)[0])


def test_numbers_are_split_at_random():
    data = ready((X, X[:, :1]), val_fraction=0.3)
    assert (len(data.train), len(data.validation)) == (70, 30)


def test_the_data_sets_own_parts_are_taken_whole():
    data = ready({"train": (X, Y), "val": (X[:7], Y[:7]), "test": (X[:9], Y[:9])})
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 7, 9)
    assert data.notes == ()


def test_constants_come_from_the_training_part_only():
    data = ready(normalize=True)
    raw = ready(normalize=False)
    expected = all_of(raw.train)[0].mean(0)
    assert torch.allclose(data.normalize.mean, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(data.normalize.mean, X.mean(0), rtol=0, atol=1e-6)


def test_validation_inputs_are_normalised_with_the_training_constants():
    data, raw = ready(normalize=True), ready(normalize=False)
    assert torch.equal(all_of(data.validation)[0], data.normalize(all_of(raw.validation)[0]))


def test_targets_are_never_normalised():
    data = ready((X, X[:, :2] + 100), normalize=True, val_fraction=0)
    assert torch.equal(all_of(data.train)[1], X[:, :2] + 100)


@pytest.mark.parametrize(
    ("own", "asked", "is_on"), [(True, None, True), (False, None, False), (True, False, False), (False, True, True)]
)
def test_normalize_null_is_the_data_sets_own_choice(own, asked, is_on):
    data = ready(Splits((X, Y), normalize=own), normalize=asked)
    assert isinstance(data.normalize, nn.Identity) != is_on


def test_images_without_normalisation_go_from_0_to_1():
    data = ready((PIXELS, Y), val_fraction=0)
    assert torch.equal(all_of(data.train)[0], PIXELS.to(F64) / 255)


def test_ids_stay_whole_numbers_and_the_user_is_told():
    data = ready((X.long(), Y), val_fraction=0)
    assert all_of(data.train)[0].dtype == torch.int64
    assert any("ids" in note for note in data.notes)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("x", [X, X.float(), PIXELS], ids=["float64", "float32", "pixels"])
def test_memory_and_workers_see_the_same_samples_bit_for_bit(x, normalize, dtype):
    in_memory = ready((x, Y), normalize=normalize, dtype=dtype)
    on_demand = ready((x, Y), normalize=normalize, dtype=dtype, workers=0)
    assert isinstance(in_memory.train, MemorySource) and isinstance(on_demand.train, DatasetSource)
    positions = [5, 0, 77]
    memory = in_memory.train.gather(torch.tensor(positions))
    batch = on_demand.train.convert(on_demand.train.fetch(positions))
    for ours, theirs in zip(memory, batch, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_a_dataset_is_normalised_as_its_arrays_are():
    arrays, dataset = ready((X, Y), normalize=True), ready(Items(X, Y, targets=Y), normalize=True)
    assert torch.equal(all_of(arrays.train)[0], all_of(dataset.train)[0])


def test_a_map_style_dataset_is_read_on_demand():
    assert isinstance(ready(Items(X, Y)).train, DatasetSource)


def test_data_that_do_not_fit_are_read_on_demand_and_the_user_is_told(monkeypatch):
    needed = 100 * (3 * 8 + 8)
    monkeypatch.setattr("mbtrain.data.prepare.free_bytes", lambda device: 4 * needed - 1)
    data = ready(test_fraction=0.1)
    assert isinstance(data.train, DatasetSource)
    assert any("DataLoader" in note for note in data.notes)


def test_data_that_just_fit_are_kept_in_memory(monkeypatch):
    needed = 100 * (3 * 8 + 8)
    monkeypatch.setattr("mbtrain.data.prepare.free_bytes", lambda device: 4 * needed)
    assert isinstance(ready(test_fraction=0.1).train, MemorySource)


def test_free_memory_is_a_number_of_bytes_that_a_machine_may_have():
    assert 1e6 < free_bytes(CPU) < 1e14


def test_the_shape_of_a_sample_and_the_number_of_outputs_are_known():
    data = ready((PIXELS, Y))
    assert (data.input_shape, data.num_outputs, data.num_classes) == ((1, 8, 8), 4, 4)


@pytest.mark.parametrize(("y", "width"), [(X[:, 0], 1), (X[:, :1], 1), (X, 3)])
def test_numbers_have_as_many_outputs_as_columns(y, width):
    data = ready((X, y))
    assert (data.num_outputs, data.num_classes) == (width, None)


def test_a_dataset_of_classes_that_says_nothing_has_an_unknown_number_of_outputs():
    assert ready(Items(X, Y)).num_outputs is None


def test_a_dataset_of_numbers_has_the_width_of_its_first_target():
    assert ready(Items(X, X)).num_outputs == 3


def test_a_dict_input_has_no_one_shape():
    items = [{"a": X[i], "b": X[i], "target": 0.5} for i in range(20)]
    assert ready(items).input_shape is None


def test_digits_have_1294_training_144_validation_and_359_test_samples():
    data = ready(Digits(), test_fraction=0.2)
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)


def test_augmentation_is_built_for_the_shape_of_the_images():
    data = ready((PIXELS, Y), augment={"crop": 2})
    assert (data.augment.crop, data.augment.height, data.augment.width) == (2, 8, 8)


def test_no_augmentation_is_none():
    assert ready().augment is None
