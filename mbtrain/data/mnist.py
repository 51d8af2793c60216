"""MNIST: 70,000 handwritten digits of 28x28 pixels."""

from __future__ import annotations

from dataclasses import dataclass

from mbtrain.data.idx import idx_splits
from mbtrain.data.splits import Splits

ADDRESSES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


@dataclass(frozen=True)
class Mnist:
    """60,000 training and 10,000 test images [n, 1, 28, 28] of the digits 0 to 9, uint8 (LeCun, Cortes and Burges)."""

    data_root: str

    def splits(self) -> Splits:
        """Read the official files under `data_root`, downloading them where they are missing."""
        return idx_splits("mnist", self.data_root, sha256=SHA256, addresses=ADDRESSES)
