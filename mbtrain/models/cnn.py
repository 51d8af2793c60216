"""A small convolutional net with batch norm, for images of about 28 or 32 pixels."""

from collections.abc import Sequence

from torch import Tensor, nn

from mbtrain.plan.refused import Refused


class Cnn(nn.Module):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling, then a linear layer."""

    def __init__(
        self, *, input_shape: Sequence[int], num_outputs: int, channels: Sequence[int] = (32, 64), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 2 ** len(channels):
            raise Refused(
                f"model=cnn with {len(channels)} blocks needs images [channels, height, width] of at least "
                f"{2 ** len(channels)} pixels, the data's shape is {list(input_shape)}: model=mlp takes any"
            )
        blocks: list[nn.Module] = []
        width, height, breadth = input_shape
        for size in channels:
            blocks += [nn.Conv2d(width, size, 3, padding=1, bias=False), nn.BatchNorm2d(size), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)]
            width, height, breadth = size, height // 2, breadth // 2
        head: list[nn.Module] = [nn.Flatten(), *([nn.Dropout(dropout)] if dropout else [])]
        self.layers = nn.Sequential(*blocks, *head, nn.Linear(width * height * breadth, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, num_outputs] of images [n, channels, height, width]."""
        return self.layers(x)
