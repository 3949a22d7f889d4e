"""How good a registration is: overlap, surfaces and landmarks in millimetres, Jacobians and folds."""

from regsuite.metrics.jacobian import jacobian_determinant, jacobian_statistics
from regsuite.metrics.overlap import dice, dice_resampled
from regsuite.metrics.points import error_summary, tre
from regsuite.metrics.surface import hd95, mean_surface_distance, surface_distances

__all__ = [
    "dice",
    "dice_resampled",
    "error_summary",
    "hd95",
    "jacobian_determinant",
    "jacobian_statistics",
    "mean_surface_distance",
    "surface_distances",
    "tre",
]
