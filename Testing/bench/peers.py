"""The peers: what users would pick instead, each behind one signature, each in a process of its own.

A peer is a function `(fixed, moving, fixed_mask) -> field`: SimpleITK images in, a displacement image out (vector
float, LPS mm, on the fixed grid, moving point = x + u(x)). Settings are the tools' defaults or the nearest thing to
them; no peer is tuned to an input. Two threads each.

`python peers.py METHOD FIXED MOVING OUT.nrrd [--mask MASK]` is what `run.py` starts and measures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

THREADS = 2
Peer = Callable[[sitk.Image, sitk.Image, "sitk.Image | None"], sitk.Image]

# name -> (module, function, what it is); quick ones first, so that a table fills early
PEERS: dict[str, tuple[str, str, str]] = {
    "greedy": ("peers_itk", "greedy_ncc", "picsl-greedy, NCC 2x2x2, 100x50x20 iterations"),
    "convexadam": ("peers_torch", "convexadam", "convexAdam MIND, defaults; thick slices: at 2 mm, grid 4, disp_hw 6, lambda 0.75"),
    "demons": ("peers_itk", "diffeomorphic_demons", "SimpleITK diffeomorphic demons, 3 levels, histogram matching"),
    "ants-mi": ("peers_itk", "ants_syn_mi", "ANTs SyN, mutual information (antspyx default)"),
    "elastix": ("peers_itk", "elastix_bspline", "elastix default B-spline map, 10 mm, mutual information"),
    "monai": ("peers_torch", "monai_lncc", "MONAI LNCC + bending energy + Adam, 3 levels to full resolution"),
    "fireants-greedy": ("peers_torch", "fireants_greedy", "FireANTs greedy, CC, 200x100x25"),
    "sitk-bspline": ("peers_itk", "sitk_bspline", "SimpleITK B-spline 12 mm, mutual information, L-BFGS"),
    "plastimatch-demons": ("peers_itk", "plastimatch_demons", "plastimatch demons, 3 stages"),
    "plastimatch": ("peers_itk", "plastimatch_bspline", "plastimatch B-spline 15 mm, MSE, 3 stages"),
    "fireants-syn": ("peers_torch", "fireants_syn", "FireANTs SyN, CC, 200x100x25"),
    "ants-cc": ("peers_itk", "ants_syn_cc", "ANTs SyN, cross-correlation radius 2, 40x20x10"),
}
TAKES_MASK = {"greedy", "elastix", "monai", "ants-mi", "ants-cc", "sitk-bspline", "plastimatch", "plastimatch-demons"}


def load(method: str) -> Peer:
    """The function of a peer; ImportError where its package is absent is raised only when it runs."""
    module, function, _ = PEERS[method]
    peer: Peer = getattr(importlib.import_module(module), function)
    return peer


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    """Run one peer; prints one JSON line with the seconds spent in the registration call alone."""
    parser = argparse.ArgumentParser(description="run one peer on one pair")
    parser.add_argument("method", choices=list(PEERS))
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mask", type=Path)
    args = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    fixed, moving = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (args.fixed, args.moving))
    mask = sitk.ReadImage(str(args.mask), sitk.sitkUInt8) if args.mask else None
    peer = load(args.method)
    wall, cpu = time.perf_counter(), cpu_seconds()
    field = peer(fixed, moving, mask)
    spent = {"call_wall_s": time.perf_counter() - wall, "call_cpu_s": cpu_seconds() - cpu}
    sitk.WriteImage(sitk.Cast(field, sitk.sitkVectorFloat32), str(args.out))
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
