"""The U-Net that foretells how uncertain a given displacement is.

Reference: Smolders, Lomax, Weber and Albertini, WBIR 2022: four resolutions, 16 channels doubling, group norm (8), convolution,
ReLU, nearest upsampling; fixed, moving and the three components of the field in, the log variances of the components out.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

_GROUPS = 8


def norm_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Group norm, 3^3 convolution, ReLU; few channels are one group each."""
    groups = _GROUPS if inputs % _GROUPS == 0 else 1
    return nn.Sequential(nn.GroupNorm(groups, inputs), nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU())


class SigmaUNet(nn.Module):
    """(N, 5, D, H, W) -> log sigma^2 (N, 3, D, H, W), sigma in the unit of the given field."""

    def __init__(self, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**n for n in range(levels)]
        self.down = nn.ModuleList(
            nn.Sequential(norm_conv(a, b), norm_conv(b, b)) for a, b in zip((5, *sizes), sizes, strict=False)
        )
        pairs = list(itertools.pairwise(sizes))
        self.up = nn.ModuleList(nn.Sequential(norm_conv(a + b, a), norm_conv(a, a)) for a, b in reversed(pairs))
        self.last = nn.Conv3d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape, unit = x.shape[2:], 2 ** (len(self.down) - 1)
        x = functional.pad(x, [p for n in reversed(shape) for p in (0, -n % unit)], mode="replicate")
        kept: list[torch.Tensor] = []
        for number, block in enumerate(self.down):
            x = block(x if number == 0 else functional.avg_pool3d(x, 2))
            kept.append(x)
        kept.pop()
        for block in self.up:
            skip = kept.pop()
            x = block(torch.cat([functional.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        return self.last(x)[:, :, : shape[0], : shape[1], : shape[2]]
