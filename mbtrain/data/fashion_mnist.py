"""Fashion-MNIST: 70,000 pictures of clothes, 28x28 pixels (arXiv 1708.07747)."""

from __future__ import annotations

from dataclasses import dataclass

from mbtrain.data.idx import idx_splits
from mbtrain.data.splits import Splits

ADDRESSES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
SHA256 = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


@dataclass(frozen=True)
class FashionMnist:
    """60,000 training and 10,000 test images [n, 1, 28, 28] of ten kinds of clothes, uint8 (Zalando SE, MIT)."""

    data_root: str

    def splits(self) -> Splits:
        """Read the official files under `data_root`, downloading them where they are missing."""
        return idx_splits("fashion_mnist", self.data_root, sha256=SHA256, addresses=ADDRESSES)
