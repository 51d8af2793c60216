"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn: no download."""

from __future__ import annotations

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mbtrain.data.splits import Arrays, Splits
from mbtrain.plan.refused import Refused


class Digits:
    """Images [n, 1, 8, 8] from 0 to 1 of the digits 0 to 9 (the test part of UCI's Optical Recognition of Digits).

    There is no official test set: conf/dataset/digits.yaml cuts one off.
    """

    def splits(self) -> Splits:
        """Read scikit-learn's data file; scikit-learn itself, which takes seconds to import, is not imported."""
        path = _data_file()
        try:
            with gzip.open(path, "rt", encoding="ascii") as lines:
                table = np.loadtxt(lines, delimiter=",", dtype=np.float32)  # 64 pixels from 0 to 16, the digit
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise Refused(f"dataset=digits: {path} cannot be read ({error}): install scikit-learn again") from None
        if table.ndim != 2 or table.shape[1] != 65:
            raise Refused(f"dataset=digits: {path} has shape {table.shape} and not (n, 65): install scikit-learn again")
        x, y = torch.from_numpy(table[:, :64] / 16), torch.from_numpy(table[:, 64])
        return Splits(Arrays(x.reshape(-1, 1, 8, 8), y.long()), num_classes=10, normalize=True)


def _data_file() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise Refused("dataset=digits: scikit-learn, which brings the data, is missing: pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
