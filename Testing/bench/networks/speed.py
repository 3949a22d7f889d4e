"""Time of one inference of a pair of 192 x 192 x 208 voxels, first weights (their values do not change the time), one thread.

    python -m Testing.bench.networks.speed [--threads 1]

Processor seconds; on two idle cores the wall time is a little above half of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from regsuite.nets.fields import resized
from regsuite.nets.heatmap import Backbone, HeatmapHead, expectation
from regsuite.nets.multilevel import MultilevelNet
from regsuite.nets.unet import FieldUNet
from torch.nn import functional

SHAPE = (208, 192, 192)
KEYPOINTS = 1024


def multilevel(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """lung-mlvirnet: three levels, the field on the full grid."""
    return resized(MultilevelNet().eval()(fixed, moving)[-1], SHAPE)


def field(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """pediatric-unet at half the resolution."""
    return resized(FieldUNet().eval()(torch.cat([functional.avg_pool3d(x, 2) for x in (fixed, moving)], dim=1)), SHAPE)


def heatmap(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """lung-vxmpp without spline and refinement: features, 1,024 keypoints (the Default) in parts."""
    pair = torch.cat([functional.avg_pool3d(x, 2) for x in (fixed, moving)], dim=1)
    features = Backbone().eval()(functional.pad(pair, [p for n in reversed(pair.shape[2:]) for p in (0, -n % 16)]))
    chosen = features.flatten(2)[0].T[torch.linspace(0, features[0, 0].numel() - 1, KEYPOINTS).long()]
    head = HeatmapHead().eval()
    return torch.cat([expectation(head(part), 0.3) for part in chosen.split(64)])


def main() -> None:
    """One row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (torch.rand(1, 1, *SHAPE, generator=generator) for _ in range(2))
    ways: tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ...] = (multilevel, field, heatmap)
    print("| network | CPU s | wall s |\n|---|---|---|")
    with torch.inference_mode():
        for way in ways:
            spent, began = time.process_time(), time.perf_counter()
            way(fixed, moving)
            print(f"| {way.__name__} | {time.process_time() - spent:.1f} | {time.perf_counter() - began:.1f} |", flush=True)


if __name__ == "__main__":
    main()
