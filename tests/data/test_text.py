import pytest
import torch

from mbtrain.data import text
from mbtrain.data.splits import as_splits
from mbtrain.data.text import Text, encoded
from mbtrain.plan.refused import Refused

CONTENT = "To be, or not to be: that is the question.\nWhether 'tis nobler,\n" * 5
PARTS = ("train", "validation", "test")


def splits_of(path, *, context=8, stride=None, shares=(0.8, 0.1, 0.1), content=CONTENT):
    (path / "mine.txt").write_text(content)
    return as_splits(Text(str(path), str(path / "mine.txt"), context=context, stride=stride, shares=shares))


def decoded(ids, content=CONTENT):
    vocabulary = sorted(set(content))
    return "".join(vocabulary[one] for one in ids.flatten().tolist())


def test_ids_count_the_distinct_characters_in_order():
    ids, vocabulary = encoded("né 🎭!né")
    assert vocabulary == " !né🎭"
    assert [vocabulary[one] for one in ids] == list("né 🎭!né")


@pytest.mark.parametrize("context", [2, 8, 30])
def test_an_epoch_is_one_pass_over_each_part(tmp_path, context):
    found = splits_of(tmp_path, context=context)
    starts = {"train": 0, "validation": 256, "test": 288}  # of 320 characters
    for part in PARTS:
        seen = decoded(getattr(found, part).x)
        assert CONTENT[starts[part] :].startswith(seen)
        assert 256 - 2 * context < len(seen) or part != "train"


@pytest.mark.parametrize("stride", [None, 3, 8])
def test_a_target_is_the_character_that_follows(tmp_path, stride):
    found = splits_of(tmp_path, stride=stride)
    for part in PARTS:
        step = stride if stride is not None and part == "train" else 8
        start = {"train": 0, "validation": 256, "test": 288}[part]
        for number, (x, y) in enumerate(zip(getattr(found, part).x, getattr(found, part).y, strict=True)):
            first = start + number * step
            assert decoded(x) == CONTENT[first : first + 8]
            assert decoded(y) == CONTENT[first + 1 : first + 9]


@pytest.mark.parametrize("stride", [1, 3, None])
def test_no_window_reaches_into_another_part(tmp_path, stride):
    """Characters that name their part: none of another part is in any window or target."""
    found = splits_of(tmp_path, stride=stride, content="a" * 80 + "b" * 10 + "c" * 10)
    for number, part in enumerate(PARTS):
        arrays = getattr(found, part)
        assert set(arrays.x.unique().tolist()) | set(arrays.y.unique().tolist()) == {number}


def test_a_stride_gives_every_window_that_fits(tmp_path):
    assert len(splits_of(tmp_path, stride=1).train) == 256 - 8


def test_windows_are_views_of_one_array(tmp_path):
    found = splits_of(tmp_path, stride=1)
    storages = {getattr(found, part).x.untyped_storage().data_ptr() for part in PARTS}
    storages |= {getattr(found, part).y.untyped_storage().data_ptr() for part in PARTS}
    assert len(storages) == 1


def test_a_share_of_0_is_no_part(tmp_path):
    found = splits_of(tmp_path, shares=[0.5, 0.5, 0])
    assert found.test is None and len(found.validation) == 159 // 8


def test_every_target_of_a_window_counts(tmp_path):
    assert torch.equal(splits_of(tmp_path).test.lengths, torch.full((3,), 8))


def test_tiny_shakespeare_has_its_known_size(data_root):
    found = as_splits(Text(str(data_root), None, context=64, stride=None, shares=[0.9, 0.05, 0.05]))
    assert (found.num_classes, found.notes) == (65, ())
    assert len(found.train) == (round(0.9 * 1_115_394) - 1) // 64


def test_where_the_example_cannot_be_had_the_message_names_file_and_folder(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(text, "ADDRESSES", (serve(b"", ["404"] * 9).address,))
    with pytest.raises(Refused, match="tinyshakespeare lacks input.txt"):
        Text(str(tmp_path), None, context=8, stride=None, shares=[0.9, 0.05, 0.05]).splits()
