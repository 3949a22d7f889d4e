"""One test per rule of CONVENTIONS.md, with literal numbers on a small, asymmetric, oblique example."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import regsuite
import torch
from regsuite.errors import NotInvertibleError
from regsuite.geometry import Grid, Image, frames
from regsuite.losses import diffusion, mse
from regsuite.metrics import dice, jacobian_determinant, tre
from regsuite.ops.derivatives import jacobian_matrix
from regsuite.ops.sampling import normalise_matrix, resample, sample_index, sample_world
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, StationaryVelocityField, compose

# i runs along +y with 2 mm, j along -x with 3 mm, k along +z with 5 mm; the first voxel is centred at (10, 20, 30) mm RAS
AFFINE = np.array([[0.0, -3.0, 0.0, 10.0], [2.0, 0.0, 0.0, 20.0], [0.0, 0.0, 5.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
GRID = Grid((2, 3, 4), AFFINE)  # D, H, W
COUNTING = Image(torch.arange(24.0, dtype=torch.float64).view(2, 3, 4), GRID)  # value 12 k + 4 j + i
SHIFT = AffineTransform.translation([0.0, 2.0, 0.0])  # one voxel along i
SWAP = AffineTransform(np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))


def points(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def constant_field(*vector_mm: float) -> DisplacementField:
    return DisplacementField(torch.tensor(vector_mm).view(3, 1, 1, 1).expand(3, 2, 3, 4).double(), GRID)


def test_tensor_order() -> None:
    assert tuple(COUNTING.data.shape) == (1, 2, 3, 4)
    assert GRID.size == (4, 3, 2)
    assert COUNTING.data[0, 1, 2, 3] == 23.0
    assert COUNTING.data.stride() == (24, 12, 4, 1)


def test_point_order() -> None:
    assert GRID.index_to_world(points((3, 2, 1))).tolist() == [[4.0, 26.0, 35.0]]
    assert sample_index(COUNTING.data, points((3, 2, 1)), "nearest").item() == COUNTING.data[0, 1, 2, 3]
    assert GRID.world_points(torch.float64)[1, 2, 3].tolist() == [4.0, 26.0, 35.0]


def test_world_frame() -> None:
    assert frames.flip_points(points((1, 2, 3))).tolist() == [[-1.0, -2.0, 3.0]]
    origin, spacing, direction = frames.affine_to_itk(AFFINE)
    assert origin == (-10.0, -20.0, 30.0)
    assert spacing == (2.0, 3.0, 5.0)
    assert np.array(direction).tolist() == [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # LPS: i along -y, j along +x


def test_units() -> None:
    assert GRID.spacing.tolist() == [2.0, 3.0, 5.0]
    assert GRID.voxel_volume == pytest.approx(30.0)
    assert constant_field(1.0, 0.0, 0.0).map_points(points((10, 20, 30))).tolist() == [[11.0, 20.0, 30.0]]  # mm, not voxels


def test_grid_affine() -> None:
    assert GRID.affine.dtype == np.float64
    assert GRID.index_to_world(points((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))).tolist() == [
        [10.0, 20.0, 30.0],
        [10.0, 22.0, 30.0],
        [7.0, 20.0, 30.0],
        [10.0, 20.0, 35.0],
    ]


def test_voxel_centre() -> None:
    assert sample_world(COUNTING, points((10, 20, 30), (10, 22, 30))).tolist() == [[0.0, 1.0]]
    assert GRID.contains(points((10, 19.1, 30), (10, 18.9, 30))).tolist() == [True, False]


def test_one_slice() -> None:
    slice_grid = Grid((1, 3, 4), AFFINE)
    image = Image(torch.full((1, 3, 4), 7.0), slice_grid)
    assert sample_world(image, points((10, 20, 32.4), (10, 20, 32.6)), fill=0.0).tolist() == [[7.0, 0.0]]  # 5 mm thick


def test_align_corners() -> None:
    assert (normalise_matrix((2, 3, 4)) @ [0.0, 0.0, 0.0, 1.0]).tolist() == pytest.approx([-0.75, -2 / 3, -0.5, 1.0])
    assert (normalise_matrix((2, 3, 4)) @ [3.5, 2.5, 1.5, 1.0]).tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0])
    package = Path(regsuite.__file__).parent
    users = {p.relative_to(package).as_posix() for p in package.rglob("*.py") if "grid_sample(" in p.read_text(encoding="utf-8")}
    assert users == {"ops/sampling.py"}


def test_resized_box() -> None:
    half = GRID.resized((1, 3, 2))
    assert half.spacing.tolist() == [4.0, 3.0, 10.0]
    assert half.affine[:3, 3].tolist() == [10.0, 21.0, 32.5]  # first centre: between the first two voxels along i and k


def test_image_outside() -> None:
    outside = points((10, 19.1, 30), (10, 18.9, 30), (10, -500.0, 30))
    assert sample_world(COUNTING, outside, fill=-9.0).tolist() == [[0.0, -9.0, -9.0]]
    assert sample_world(COUNTING, outside).tolist() == [[0.0, 0.0, 0.0]]


def test_nearest_halves() -> None:
    assert sample_index(COUNTING.data, points((0.5, 0, 0), (1.5, 0, 0), (2.5, 0, 0)), "nearest").tolist() == [[1.0, 2.0, 3.0]]


def test_direction() -> None:
    moved = resample(COUNTING, GRID, SHIFT, fill=-1.0)
    assert moved.data[0, 0, 0].tolist() == pytest.approx([1.0, 2.0, 3.0, -1.0])  # voxel i shows what the moving image has at i + 1


def test_landmarks() -> None:
    fixed, moving = points((10, 20, 30)), points((10, 22, 30))
    assert SHIFT.map_points(fixed).tolist() == moving.tolist()
    assert SHIFT.inverse().map_points(moving).tolist() == fixed.tolist()
    assert tre(SHIFT, fixed, moving).tolist() == [0.0]
    assert tre(SHIFT, moving, fixed).tolist() == [4.0]


def test_displacement() -> None:
    field = torch.zeros(3, 2, 3, 4, dtype=torch.float64)
    field[:, 0, 0, 1] = torch.tensor([1.0, 2.0, 3.0])  # at voxel i = 1: (10, 22, 30) mm
    transform = DisplacementField(field, GRID)
    assert transform.map_points(points((10, 22, 30))).tolist() == [[11.0, 24.0, 33.0]]
    assert transform.map_points(points((10, 21, 30))).tolist() == [[10.5, 22.0, 31.5]]
    assert transform.displacement(GRID)[:, 0, 0, 1].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kind", [DisplacementField, StationaryVelocityField])
def test_displacement_outside(kind: type) -> None:
    transform = kind(torch.full((3, 2, 3, 4), 0.125, dtype=torch.float64), GRID)
    found = transform.map_points(points((10, 19.1, 30), (10, 18.9, 30)))
    assert found.tolist() == [[10.125, 19.225, 30.125], [10.0, 18.9, 30.0]]


def test_compose() -> None:
    start = points((1, 2, 3))
    assert compose(SHIFT, SWAP).map_points(start).tolist() == [[2.0, 3.0, 3.0]]  # swap x and y, then add 2 to y
    assert compose(SWAP, SHIFT).map_points(start).tolist() == [[4.0, 1.0, 3.0]]


def test_composite_order() -> None:
    assert CompositeTransform((SHIFT, SWAP)).map_points(points((1, 2, 3))).tolist() == [[2.0, 3.0, 3.0]]
    parts = compose(SHIFT, constant_field(1, 0, 0)).parts  # type: ignore[attr-defined]
    assert [type(part).__name__ for part in parts] == ["AffineTransform", "DisplacementField"]


def test_inverse() -> None:
    assert SWAP.inverse().map_points(points((1, 2, 3))).tolist() == [[2.0, 1.0, 3.0]]
    back = constant_field(0.5, -0.25, 1.0).inverse()
    assert back.field[:, 1, 1, 1].tolist() == pytest.approx([-0.5, 0.25, -1.0], abs=0.01)
    velocity = torch.full((3, 2, 3, 4), 0.5)
    assert torch.equal(StationaryVelocityField(velocity, GRID).inverse().velocity, -velocity)
    with pytest.raises(NotInvertibleError):  # every point of the grid goes 100 mm away and none comes back to (10, 20, 30)
        constant_field(100.0, 0.0, 0.0).inverse_points(points((10, 20, 30)))


def test_velocity() -> None:
    """v = 0.5 (x - c) grows every distance from c by e^0.5 = 1.6487 in unit time, and not by 1.5."""
    grid = Grid((21, 21, 21), np.diag([0.5, 0.5, 0.5, 1.0]))
    v = 0.5 * (grid.world_points(torch.float64) - 5.0).permute(3, 0, 1, 2)
    found = StationaryVelocityField(v, grid).map_points(points((6, 5, 5)))
    assert found[0].tolist() == pytest.approx([5.0 + math.exp(0.5), 5.0, 5.0], abs=0.02)


def test_jacobian() -> None:
    stretch = np.array([[1.0, 0.25, 0, 0], [0, 2.0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # y doubled, x sheared along y
    displacement = AffineTransform(stretch).displacement(GRID)
    jacobian = jacobian_matrix(displacement, GRID)[:, :, 0, 0, 0]
    assert jacobian.flatten().tolist() == pytest.approx([1.0, 0.25, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0], abs=1e-5)
    assert jacobian_determinant(AffineTransform(stretch), GRID)[1, 2, 3].item() == pytest.approx(2.0)
    mirror = AffineTransform(np.diag([-1.0, 1.0, 1.0, 1.0]))
    assert jacobian_determinant(mirror, GRID)[1, 2, 3].item() == pytest.approx(-1.0)


def test_losses() -> None:
    zeros, twos = torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), 2.0)
    assert mse(zeros, zeros).item() == 0.0
    assert mse(zeros, twos).item() == 4.0  # the mean; the sum would be 16
    assert mse(zeros, torch.tensor([2.0, 2.0, 9.0, 9.0]).view(1, 1, 1, 4), torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 4)) == 4.0


def test_regularisers() -> None:
    """u_y = 0.1 y has |grad u|^2 = 0.01 on any grid, although neighbours differ by 0.2 mm here and by 0.4 mm there."""
    for grid in (GRID, GRID.resized((2, 3, 2))):
        u = torch.zeros(3, *grid.shape, dtype=torch.float64)
        u[1] = 0.1 * grid.world_points(torch.float64)[..., 1]
        assert diffusion(u, grid).item() == pytest.approx(0.01)


def test_dice() -> None:
    line = Grid((1, 1, 4), np.eye(4))
    a, b = (Image(torch.tensor(v).view(1, 1, 4), line) for v in ([0, 1, 1, 2], [1, 1, 1, 2]))
    assert dice(a, b) == {1: 0.8, 2: 1.0}


def test_every_rule_has_its_test_and_every_test_its_rule() -> None:
    text = (Path(regsuite.__file__).parent / "CONVENTIONS.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^- \*\*(\w+)\*\*:", text, flags=re.MULTILINE))
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert len(rules) > 20
    assert tests - {"every_rule_has_its_test_and_every_test_its_rule"} == rules
