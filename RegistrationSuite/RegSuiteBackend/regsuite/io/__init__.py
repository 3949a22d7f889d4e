"""Files in and out: images, label maps, transforms, landmarks. LPS and RAS meet here, through geometry.frames only."""

from regsuite.io.atomic import staged_file, staged_folder
from regsuite.io.landmarks import read_landmarks, write_landmarks
from regsuite.io.transforms import read_transform, write_transform
from regsuite.io.volumes import read_image, read_labels, write_image

__all__ = [
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_transform",
    "staged_file",
    "staged_folder",
    "write_image",
    "write_landmarks",
    "write_transform",
]
