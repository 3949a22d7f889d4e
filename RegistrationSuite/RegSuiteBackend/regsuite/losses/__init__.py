"""Differentiable scalars to minimise: how badly two images agree (`image`), how rough a displacement is (`regularisers`).

All are means, never sums, so a value means the same at every resolution. Tensors are batchless, (C, D, H, W).
"""

from regsuite.losses.image import lncc, mind_ssc, mse, mutual_information, ncc, ngf
from regsuite.losses.regularisers import curvature, diffusion, folding_barrier

__all__ = ["curvature", "diffusion", "folding_barrier", "lncc", "mind_ssc", "mse", "mutual_information", "ncc", "ngf"]
