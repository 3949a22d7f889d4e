"""VoxelMorph++: a single-scale U-Net for features and a head that predicts a heatmap of displacements at keypoints.

Reference: Heinrich and Hansen, VoxelMorph++: going beyond the cranial vault with keypoint supervision and multi-channel instance
optimisation, WBIR 2022; 901,888 and 462,417 parameters, as published (kernels of the head: 7^3 for the transposed convolution,
3^3 for the others, which is what gives the published number).
Differs in: candidate displacements reach exactly +-`reach` of the box's half length (the published mesh reaches 10/11 of it).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_ENCODER = (32, 48, 48, 64)
_DECODER = ((64, 0), (48, 64), (48, 48), (48, 48))  # channels, and of the skip that comes in
_FINAL = (48, 32, 64)
CANDIDATES = 11


def double(inputs: int, outputs: int) -> nn.Sequential:
    """3^3 convolution, instance norm, ReLU, 1^3 convolution, instance norm, ReLU."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1),
        nn.InstanceNorm3d(outputs),
        nn.ReLU(),
        nn.Conv3d(outputs, outputs, 1),
        nn.InstanceNorm3d(outputs),
        nn.ReLU(),
    )


class Backbone(nn.Module):
    """(N, 2, D, H, W), each side a multiple of 16 and at least 32 -> features (N, 64, D/2, H/2, W/2)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(double(a, b) for a, b in zip((2, *_ENCODER), _ENCODER, strict=False))
        before = (_ENCODER[-1], *(c for c, _ in _DECODER))
        self.decoder = nn.ModuleList(double(a + skip, c) for a, (c, skip) in zip(before, _DECODER, strict=False))
        last = (_DECODER[-1][0], *_FINAL)
        self.final = nn.Sequential(*(double(a, b) for a, b in zip(last, _FINAL, strict=False)))

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        x, kept = pair, []
        for block in self.encoder:
            x = block(x)
            kept.append(x)
            x = functional.max_pool3d(x, 2)
        x = self.decoder[0](x)
        for block, skip in zip(self.decoder[1:], kept[:0:-1], strict=True):  # type: ignore[arg-type]
            x = block(torch.cat([functional.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        return self.final(x)


class HeatmapHead(nn.Module):
    """Feature vectors (K, 64) -> logits (K, 11, 11, 11) over candidate displacements."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv3d(inputs, outputs, 3, padding=1), nn.InstanceNorm3d(outputs), nn.ReLU()]

        self.first = nn.Sequential(
            nn.ConvTranspose3d(64, 16, 7), nn.InstanceNorm3d(16), nn.ReLU(), *conv(16, 32), nn.Conv3d(32, 32, 3, padding=1)
        )
        self.second = nn.Sequential(*conv(32, 32), *conv(32, 32), *conv(32, 16), nn.Conv3d(16, 1, 3, padding=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.first(features[:, :, None, None, None])
        x = functional.interpolate(x, size=(CANDIDATES,) * 3, mode="trilinear", align_corners=False)
        return self.second(x)[:, 0]


class RegressionHead(nn.Module):
    """The comparison without a heatmap (VoxelMorph+): feature vectors (K, 64) -> displacements (K, 3) by three 1^3 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())
        self.last = nn.Linear(64, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(features))


def candidates(reach: float, like: torch.Tensor) -> torch.Tensor:
    """(11^3, 3) displacements (x, y, z) of the heatmap's cells, -reach to reach, in the order of the flattened logits."""
    line = torch.linspace(-reach, reach, CANDIDATES, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], dim=-1).view(-1, 3)


def expectation(logits: torch.Tensor, reach: float) -> torch.Tensor:
    """(K, 11, 11, 11) -> (K, 3): the mean candidate under the softmax of the logits."""
    return torch.softmax(logits.flatten(1), dim=1) @ candidates(reach, logits)
