"""mlVIRNET: one U-Net for each resolution, coarse to fine; each sees what the coarser ones have already moved.

Reference: Hering, van Ginneken and Heldmann, mlVIRNET: Multilevel Variational Image Registration Network, MICCAI 2019.
Differs from the paper in: the finer map is applied to a fixed point first (the paper writes the opposite order, which does not
undo the warp that the finer net has seen); batch normalisation became instance normalisation (batches of one pair); the last layer
starts small.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from regsuite.nets.blocks import conv_norm, small, xavier
from regsuite.nets.fields import composed, resized, sample

_LEAST_SIDE = 8  # two halvings must leave more than one voxel to normalise over


class LevelNet(nn.Module):
    """(N, 2, D, H, W) fixed and warped moving -> displacement (N, 3, D, H, W) in voxels along (i, j, k).

    Three resolutions of `width`, 2 and 4 times as many channels; average pooling, transposed convolutions, concatenated skips.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                conv_norm(inputs, outputs, nn.InstanceNorm3d), conv_norm(outputs, outputs, nn.InstanceNorm3d)
            )

        w = width
        self.down = nn.ModuleList([stage(2, w), stage(w, 2 * w), stage(2 * w, 4 * w)])
        self.up = nn.ModuleList([nn.ConvTranspose3d(4 * w, 2 * w, 2, stride=2), nn.ConvTranspose3d(2 * w, w, 2, stride=2)])
        self.merge = nn.ModuleList([stage(4 * w, 2 * w), stage(2 * w, w)])
        self.last = nn.Conv3d(w, 3, 1)
        xavier(self)
        small(self.last, 1e-2)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        shape = pair.shape[2:]
        pad = [p for n in reversed(shape) for p in (0, -n % 4)]
        a = self.down[0](functional.pad(pair, pad, mode="replicate"))
        b = self.down[1](functional.avg_pool3d(a, 2))
        c = self.down[2](functional.avg_pool3d(b, 2))
        b = self.merge[0](torch.cat([self.up[0](c), b], dim=1))
        a = self.merge[1](torch.cat([self.up[1](b), a], dim=1))
        return self.last(a)[:, :, : shape[0], : shape[1], : shape[2]]


class MultilevelNet(nn.Module):
    """`levels` LevelNets; nets[0] works at 1 / 2^levels of the input's resolution, the last at one half.

    forward(fixed, moving) of (N, 1, D, H, W) -> the total displacements after each level, (N, 3, d, h, w) in voxels of that level,
    coarse to fine. The total map is Y_l = y_coarser o y_l: level l finds y_l between fixed and moving(Y_coarser), so a finer map
    is applied to a fixed point first. `active`: how many levels run; single: one net at the finest level only.
    """

    def __init__(self, levels: int = 3, width: int = 16, single: bool = False) -> None:
        super().__init__()
        self.strides = [2] if single else [2**n for n in range(levels, 0, -1)]
        self.nets = nn.ModuleList(LevelNet(width) for _ in self.strides)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor, active: int | None = None) -> list[torch.Tensor]:
        total: torch.Tensor | None = None
        found = []
        for net, stride in list(zip(self.nets, self.strides, strict=True))[:active]:
            f, m = (pooled(image, stride) for image in (fixed, moving))
            if total is None:
                total = net(torch.cat([f, m], dim=1))
            else:
                start = resized(total, (int(f.shape[2]), int(f.shape[3]), int(f.shape[4])))
                total = composed(start, net(torch.cat([f, sample(m, start)], dim=1)))
            found.append(total)
        return found

    def carry(self, level: int) -> None:
        """Net `level` begins with what the next coarser one has learned."""
        self.nets[level].load_state_dict(self.nets[level - 1].state_dict())


def pooled(image: torch.Tensor, stride: int) -> torch.Tensor:
    """Means over cells of stride^3, on a lattice that fills the same box."""
    d, h, w = (max(_LEAST_SIDE, round(n / stride)) for n in image.shape[2:])
    return functional.adaptive_avg_pool3d(image, (d, h, w))
