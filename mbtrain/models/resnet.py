"""The residual network for small images (arXiv 1512.03385, section 4.2), of about 28 or 32 pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mbtrain.plan.refused import Refused


class ResNet(nn.Module):
    """A 3x3 convolution, three stages of (depth - 2) / 6 blocks, the mean over the image, a linear layer.

    The stages have `width`, 2 and 4 times `width` channels and halve the image between them. Shortcuts have no
    weights: where the shape changes, every other pixel is taken and channels of zeros are added. Depth 20 and width 16
    are the paper's ResNet-20. `zero_init_last` starts the scale of each block's last batch norm from 0, so that every
    block starts as the identity (arXiv 1706.02677).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_outputs: int,
        depth: int = 20,
        width: int = 16,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise Refused(
                f"model=resnet: needs images [channels, height, width], the data's shape is {list(input_shape)}: "
                "model=mlp takes any"
            )
        if depth < 8 or depth % 6 != 2:
            raise Refused(f"model.depth={depth}: must be 6 n + 2, such as 8, 14, 20, 32, 44, 56 or 110")
        layers: list[nn.Module] = [_convolution(input_shape[0], width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
        for stage in range(3):
            for number in range((depth - 2) // 6):
                after = width * 2**stage
                layers.append(Block(before, after, stride=2 if stage and not number else 1))
                before = after
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Block) and zero_init_last:
                nn.init.zeros_(module.norm_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, num_outputs] of images [n, channels, height, width]."""
        return self.head(self.layers(x).mean((2, 3)))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.stride, self.num_added = stride, after - before
        self.conv_1, self.norm_1 = _convolution(before, after, stride), nn.BatchNorm2d(after)
        self.conv_2, self.norm_2 = _convolution(after, after, 1), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, after, height / stride, width / stride]."""
        out = self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(x)))))
        if self.num_added:
            # Channels of zeros, half of them before and half behind.
            first = self.num_added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, first, self.num_added - first))
        return F.relu(out + x)


def _convolution(before: int, after: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
