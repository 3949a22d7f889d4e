"""The U-Net of the paediatric study: three resolutions of 8, 16, 32 channels, strided convolutions, residual blocks.

Reference: Dimitrijevic, Noblet and De Leener, Deep Learning-Based Longitudinal Intra-subject Registration of Pediatric Brain MR
Images, WBIR 2022; architecture as its configuration describes it (DeepReg's U-Net of depth 2, 8 initial channels, concatenated
skips), written anew. Differs in: instance for batch normalisation (batches of one pair); the last layer starts small.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

from regsuite.nets.blocks import conv_norm, small, xavier


class Residual(nn.Module):
    """Convolution, then a convolution whose result is added to its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, nn.InstanceNorm3d)
        self.second = nn.Sequential(nn.Conv3d(outputs, outputs, 3, padding=1), nn.InstanceNorm3d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return functional.relu(y + self.second(y))


class FieldUNet(nn.Module):
    """(N, 2, D, H, W) fixed and moving -> displacement (N, 3, D, H, W) in voxels along (i, j, k)."""

    def __init__(self, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        sizes = [width * 2**n for n in range(depth + 1)]
        pairs = list(itertools.pairwise(sizes))
        self.down = nn.ModuleList([Residual(2, sizes[0]), *(Residual(b, b) for _, b in pairs)])
        self.shrink = nn.ModuleList(conv_norm(a, b, nn.InstanceNorm3d, stride=2) for a, b in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(Residual(2 * a, a) for a, _ in reversed(pairs))
        self.last = nn.Conv3d(width, 3, 3, padding=1)
        xavier(self)
        small(self.last, 1e-2)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        shape, unit = pair.shape[2:], 2 ** len(self.shrink)
        pad = [p for n in reversed(shape) for p in (0, -n % unit)]
        x = self.down[0](functional.pad(pair, pad, mode="replicate"))
        kept = []
        for shrink, block in zip(self.shrink, self.down[1:], strict=True):  # type: ignore[arg-type]
            kept.append(x)
            x = block(shrink(x))
        for grow, merge in zip(self.grow, self.merge, strict=True):
            x = merge(torch.cat([grow(x), kept.pop()], dim=1))
        return self.last(x)[:, :, : shape[0], : shape[1], : shape[2]]
