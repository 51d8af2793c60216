import pytest
import torch

from mbtrain.data.prepare import Options, prepare
from mbtrain.data.splits import as_splits
from mbtrain.data.text_lines import TextLines
from tests.data.conftest import CPU

CONTENT = "ab\n\nabcd\n  \nc\n"


def splits_of(path, *, max_length=None, content=CONTENT):
    (path / "mine.txt").write_text(content)
    return as_splits(TextLines(str(path), str(path / "mine.txt"), max_length=max_length))


def test_a_line_is_predicted_from_its_start_to_its_end_and_padding_counts_for_nothing(tmp_path):
    found = splits_of(tmp_path)  # newline 0, a 1, b 2, c 3, d 4
    assert found.num_classes == 5
    assert found.train.x.tolist() == [[0, 1, 2, 0, 0], [0, 1, 2, 3, 4], [0, 3, 0, 0, 0]]
    assert found.train.y.tolist() == [[1, 2, 0, -100, -100], [1, 2, 3, 4, 0], [3, 0, -100, -100, -100]]


def test_a_long_line_is_cut_and_its_end_is_no_target(tmp_path):
    found = splits_of(tmp_path, max_length=2)
    assert found.train.x.tolist() == [[0, 1, 2], [0, 1, 2], [0, 3, 0]]
    assert found.train.y.tolist() == [[1, 2, 0], [1, 2, -100], [3, 0, -100]]
    assert found.notes == ("1 of 3 lines are cut (dataset.max_length=2)",)


@pytest.mark.parametrize("max_length", [4, 5, None])
def test_a_limit_that_no_line_reaches_changes_nothing(tmp_path, max_length):
    found = splits_of(tmp_path, max_length=max_length)
    assert torch.equal(found.train.y, splits_of(tmp_path).train.y) and found.notes == ()


def test_the_length_of_a_sample_is_the_number_of_its_targets(tmp_path):
    assert splits_of(tmp_path).train.lengths.tolist() == [3, 5, 2]


def test_a_last_line_needs_no_newline(tmp_path):
    assert torch.equal(splits_of(tmp_path, content=CONTENT.rstrip()).train.y, splits_of(tmp_path).train.y)


def test_lines_are_held_out_by_the_split_s_seed(tmp_path):
    found = splits_of(tmp_path, content="".join(f"line {number}\n" for number in range(100)))
    options = Options(val_fraction=0.2, test_fraction=0.1)
    data = prepare(found, options, device=CPU, dtype=torch.float32)
    assert data.validation is not None and data.test is not None
    parts = [set(part.indices.tolist()) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [72, 18, 10] and len(set.union(*parts)) == 100


def test_every_line_of_tiny_shakespeare_is_a_sample(data_root):
    found = as_splits(TextLines(str(data_root), None, max_length=None))
    assert (len(found.train), found.num_classes) == (32_777, 65)
    characters = int(found.train.lengths.sum())
    assert characters == 1_115_394 - 7_223  # but the newlines of blank lines
