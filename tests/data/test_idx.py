import gzip

import numpy as np
import pytest

from mbtrain.data.idx import read_idx
from mbtrain.plan.refused import Refused
from tests.data.conftest import idx_bytes

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_an_idx_file_is_read_zipped_or_not(tmp_path, name):
    content = idx_bytes(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert np.array_equal(read_idx(tmp_path / name, dimensions=3), IMAGES)


@pytest.mark.parametrize(
    "change", [lambda content: content + b"x", lambda content: content[:-1], lambda content: content[:9]]
)
def test_an_idx_file_has_exactly_the_bytes_that_its_header_promises(tmp_path, change):
    (tmp_path / "images").write_bytes(change(idx_bytes(IMAGES)))
    with pytest.raises(Refused, match="header|begins"):
        read_idx(tmp_path / "images", dimensions=3)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    (tmp_path / "images").write_bytes(bytes((0, 0, 8, 3)) + b"\xff" * 12)
    with pytest.raises(Refused, match="images"):
        read_idx(tmp_path / "images", dimensions=3)
