"""A convolutional net for fast training on small images: its first layer whitens patches, after arXiv 2404.00498."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbtrain.plan.refused import Refused

# Added to the variances along a patch's principal axes: what hardly varies is not blown up (arXiv 2404.00498).
WHITENING_EPS = 5e-4
# Positions of a patch, in an image, that the covariance is taken over at once: bounds the temporary copies.
CHUNK_SIZE = 512


class WhitenedCnn(nn.Module):
    """Patches of 2x2 pixels are whitened by weights that stay; blocks of two convolutions with batch norm follow.

    `stride` is the way from a patch to the next: 2 keeps all there is to see in a quarter of the positions.

    Each block is a 3x3 convolution, 2x2 pooling, batch norm, GELU, then convolution, batch norm, GELU; what is left
    of the image is pooled to its largest value and a linear layer gives the outputs, `scale` times smaller than it
    would. Batch norm has no weights, and its biases move `shift_speed` squared times as fast as the rest (64 in the
    paper). A convolution starts as the identity on as many channels as it has in common with its input. In evaluation
    a model that is `mirrored` gives the mean of its outputs for an image and for its mirror image.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        widths: Sequence[int] = (64, 256, 256),
        stride: int = 1,
        scale: float = 0.1111,
        shift_speed: float = 8.0,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        if stride < 1 or not widths or min(widths) < 1:
            raise Refused(f"model.widths={list(widths)} model.stride={stride}: must be whole numbers of at least 1")
        smallest = stride * (2 ** len(widths) - 1) + 2
        if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
            raise Refused(
                f"model=whitened_cnn with {len(widths)} blocks needs images [channels, height, width] of at least "
                f"{smallest} pixels, the data's shape is {list(input_shape)}: model=mlp takes any"
            )
        patch = 4 * input_shape[0]
        self.whitening = nn.Conv2d(input_shape[0], 2 * patch, 2, stride=stride)
        self.whitening.weight.requires_grad_(False)
        before, blocks = 2 * patch, list[nn.Module]()
        for width in widths:
            blocks.append(_block(before, width, shift_speed))
            before = width
        self.blocks = nn.Sequential(nn.GELU(), *blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Linear(before, num_outputs, bias=False)
        self.scale, self.mirrored = scale, mirrored

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Set the whitening layer by images of the training set [n, channels, height, width]."""
        weight = whitening(x).to(self.whitening.weight.dtype)
        self.whitening.weight.copy_(torch.cat([weight, -weight]))
        assert self.whitening.bias is not None
        self.whitening.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, num_outputs] of images [n, channels, height, width]."""
        if self.mirrored and not self.training:
            return (self._outputs(x) + self._outputs(x.flip(-1))) / 2
        return self._outputs(x)

    def _outputs(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.whitening(x))) * self.scale


def whitening(x: Tensor) -> Tensor:
    """Filters [4 C, C, 2, 2] that give patches of 2x2 pixels of images [n, C, H, W] variance 1, and no correlation.

    >>> x = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    >>> patches = torch.nn.functional.conv2d(x, whitening(x)).movedim(1, 0).flatten(1)
    >>> bool((patches @ patches.T / patches.shape[1] - torch.eye(4)).abs().max() < 0.01)
    True
    """
    size = 4 * x.shape[1]
    second = torch.zeros(size, size, dtype=torch.float64, device=x.device)
    for part in x.split(CHUNK_SIZE):
        patches = nn.functional.unfold(part, 2).movedim(1, 0).flatten(1).double()  # [4 C, patches]
        second += patches @ patches.T
    num_patches = len(x) * (x.shape[2] - 1) * (x.shape[3] - 1)
    variances, axes = torch.linalg.eigh(second / num_patches)
    filters = axes.T / (variances[:, None] + WHITENING_EPS).sqrt()
    return filters.reshape(size, x.shape[1], 2, 2).to(x.dtype)


class Shift(nn.Module):
    """Adds `speed` times a trained number to each channel: SGD moves what is added speed^2 times as fast."""

    def __init__(self, width: int, speed: float) -> None:
        super().__init__()
        self.bias, self.speed = nn.Parameter(torch.zeros(width, 1, 1)), speed

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + (self.speed * self.bias).to(x.dtype)


def _block(before: int, width: int, speed: float) -> nn.Sequential:
    first, second = (nn.Conv2d(one, width, 3, padding=1, bias=False) for one in (before, width))
    for one in (first, second):
        nn.init.dirac_(one.weight[: one.in_channels])
    normed = [nn.Sequential(nn.BatchNorm2d(width, affine=False), Shift(width, speed), nn.GELU()) for _ in range(2)]
    return nn.Sequential(first, nn.MaxPool2d(2), normed[0], second, normed[1])
