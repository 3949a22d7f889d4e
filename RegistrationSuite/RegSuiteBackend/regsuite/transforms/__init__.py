"""Maps of the world: T takes fixed points to moving points, moved(x) = moving(T(x)); all in RAS mm."""

from regsuite.transforms.base import Transform, compose
from regsuite.transforms.composite import CompositeTransform
from regsuite.transforms.displacement import DisplacementField
from regsuite.transforms.linear import AffineTransform
from regsuite.transforms.samples import sample_transforms
from regsuite.transforms.velocity import StationaryVelocityField

__all__ = [
    "AffineTransform",
    "CompositeTransform",
    "DisplacementField",
    "StationaryVelocityField",
    "Transform",
    "compose",
    "sample_transforms",
]
