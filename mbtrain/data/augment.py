"""Augmentation of images as batched tensor operations: flip, padded crop, cutout."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mbtrain.plan.refused import Refused

NAMES = ("flip", "crop", "cutout")


@dataclass(frozen=True)
class Augment:
    """What happens at random to each image of a mini-batch [n, C, H, W] of one size.

    flip: left and right are swapped for every other image. crop: pixels of zeros added on each side before a window of
    the old size is cut (0 is the mean once normalised). cutout: side of a square of zeros whose centre lies anywhere in
    the image (arXiv 1708.04552); 0 is off.
    """

    flip: bool
    crop: int
    cutout: int
    height: int
    width: int
    device: torch.device

    def draw(self, num_samples: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The random numbers of a whole mini-batch, each a tensor [n]; index them to augment a part of it."""

        def below(bound: int) -> Tensor:
            return torch.randint(bound, (num_samples,), generator=generator, device=self.device)

        draws = {}
        if self.flip:
            draws["flip"] = below(2)
        if self.crop:
            draws["crop_y"], draws["crop_x"] = below(2 * self.crop + 1), below(2 * self.crop + 1)
        if self.cutout:
            draws["cutout_y"], draws["cutout_x"] = below(self.height), below(self.width)
        return draws

    def apply(self, x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """The images [n, C, H, W] augmented by the draws of the same samples, in a new tensor."""
        if self.flip or self.crop:
            x = self._move(x, draws)
        return self._cut_out(x, draws) if self.cutout else x

    def _move(self, x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Flip and crop at once: every pixel of the result is gathered from where it comes from."""
        rows = torch.arange(self.height, device=x.device).expand(len(x), -1)  # [n, H]
        columns = torch.arange(self.width, device=x.device).expand(len(x), -1)  # [n, W]
        if self.crop:
            x = pad(x, [self.crop] * 4)
            rows, columns = rows + draws["crop_y"][:, None], columns + draws["crop_x"][:, None]
        if self.flip:
            columns = torch.where(draws["flip"][:, None] == 1, x.shape[-1] - 1 - columns, columns)
        pixels = (rows[:, :, None] * x.shape[-1] + columns[:, None, :]).flatten(1)  # [n, H * W]
        gathered = x.flatten(2).gather(2, pixels[:, None].expand(-1, x.shape[1], -1))
        return gathered.unflatten(2, (self.height, self.width))

    def _cut_out(self, x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        rows = _in_square(draws["cutout_y"], self.height, self.cutout)
        columns = _in_square(draws["cutout_x"], self.width, self.cutout)
        return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def _in_square(centres: Tensor, side: int, cutout: int) -> Tensor:
    """Which of the positions 0..side-1 lie in the `cutout` ones around each centre: [n, side]."""
    distance = torch.arange(side, device=centres.device) - centres[:, None] + cutout // 2
    return (distance >= 0) & (distance < cutout)


def augment_of(wanted: Any, inputs: Any, device: torch.device) -> Augment | None:
    """The augmentation that `dataset.augment` asks for, for inputs like this batch; raises Refused.

    wanted: null, a name, a list of names, or a mapping such as `{flip: true, crop: 4, cutout: 8}` (pixels). A name
    alone, or true, takes an eighth of the shorter side for crop and a quarter of it for cutout: 4 and 8 of 32.

    >>> augment_of({"crop": 2}, torch.zeros(1, 3, 32, 32), torch.device("cpu")).crop
    2
    """
    sizes = _sizes(wanted)
    if not any(sizes.values()):
        return None
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or not inputs.is_floating_point():
        shape = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise Refused(f"dataset.augment={wanted}: it needs images [channels, height, width], the inputs are {shape}")
    height, width = inputs.shape[2:]
    shorter = min(height, width)
    sides = {"crop": max(1, shorter // 8), "cutout": max(1, shorter // 4)}
    pixels = {name: sides[name] if sizes[name] is True else int(sizes[name]) for name in sides}
    for name, size in pixels.items():
        if size > shorter:
            raise Refused(f"dataset.augment.{name}={size}: the images have {shorter} pixels: give at most that")
    return Augment(flip=bool(sizes["flip"]), **pixels, height=height, width=width, device=device)


def _sizes(wanted: Any) -> dict[str, bool | int]:
    """What is asked for by name: pixels, True for the usual size, False for off."""
    if wanted is None:
        return {}
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, Mapping | Sequence):
        raise Refused(f"dataset.augment={wanted}: give a list or a mapping of {', '.join(NAMES)}")
    named = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, True)
    for name, size in named.items():
        if name not in NAMES:
            nearest = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
            raise Refused(f"dataset.augment: {name} is unknown, did you mean {nearest}? There are {', '.join(NAMES)}")
        is_pixels = isinstance(size, int) and size >= 0 and (name != "flip" or isinstance(size, bool))
        if size is not None and not is_pixels:
            kind = "true or false" if name == "flip" else "a number of pixels, or true"
            raise Refused(f"dataset.augment.{name}={size}: give {kind}")
    return {name: named.get(name) or False for name in NAMES}
