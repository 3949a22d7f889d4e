"""slices-qmri against the phantom's truth, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import Cancelled, InputError
from regsuite.geometry import Grid, Image
from regsuite.methods import registry
from regsuite.methods.slices import qmri
from regsuite.ops.scatter import emulated_slice
from regsuite.phantoms import SlicePhantom, make_slice_phantom

PREVIEW = qmri.PRESETS["Preview"].replaced(finest_mm=3.0, iterations=16)


@pytest.fixture(scope="module")
def hip() -> SlicePhantom:
    return make_slice_phantom("hip-radial", 5, size=(64, 64, 64), pixels=64, motion_mm=0.5)


@pytest.fixture(scope="module")
def found(hip: SlicePhantom) -> qmri.SlicesResult:
    return qmri.register(hip.slices, hip.volume, PREVIEW, slice_masks=hip.slice_masks, volume_mask=hip.volume_mask)


def errors(poses: list[np.ndarray], hip: SlicePhantom) -> np.ndarray:
    """(S, 2) mm at the slice's middle and degrees."""
    out = []
    for pose, truth, image in zip(poses, hip.transforms, hip.slices, strict=True):
        centre = np.append(image.grid.centre, 1.0)
        turn = pose[:3, :3] @ truth.matrix[:3, :3].T
        angle = np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
        out.append((np.linalg.norm(((pose - truth.matrix) @ centre)[:3]), angle))
    return np.array(out)


def test_it_finds_order_side_and_place_of_every_slice(hip: SlicePhantom, found: qmri.SlicesResult) -> None:
    before = errors([np.eye(4)] * 6, hip)
    after = errors([item.matrix for item in found.slices], hip)
    assert before[:, 0].min() > 15.0
    assert after[:, 1].max() < 3.0  # 30 degrees lie between neighbours: order and side are right
    assert np.median(after[:, 0]) < 0.7
    assert np.median(after[:, 1]) < 0.7
    assert all(row["level"] != "poor" for row in found.certainty)
    assert sorted(found.slots) == list(range(6))


def test_the_same_seed_gives_the_same_bytes(hip: SlicePhantom) -> None:
    config = PREVIEW.replaced(order="given", range_mm=8.0, range_deg=0.0, iterations=3)
    a, b = (qmri.register(hip.slices[:2], hip.volume, config) for _ in range(2))
    assert all(np.array_equal(x.matrix, y.matrix) for x, y in zip(a.slices, b.slices, strict=True))


@pytest.mark.parametrize("after", [0, 4, 12])
def test_it_stops_when_asked_and_counts_upwards(hip: SlicePhantom, after: int) -> None:
    calls: list[float] = []

    def stop(fraction: float, stage: str, detail: str) -> bool:
        calls.append(fraction)
        return len(calls) <= after

    with pytest.raises(Cancelled):
        qmri.register(hip.slices, hip.volume, PREVIEW, slice_masks=hip.slice_masks, volume_mask=hip.volume_mask, progress=stop)
    assert len(calls) == after + 1
    assert calls == sorted(calls)


def test_a_turn_by_vote_reaches_a_start_far_round_the_axis() -> None:
    """The paper's search alone: the given order, a stack turned by 12 degrees about its axis."""
    hip = make_slice_phantom(
        "hip-radial", 3, size=(64, 64, 64), pixels=64, motion_mm=0.0, shuffle=False, rotation_deg=0, shift_mm=0
    )
    stack = qmri.describe([image.grid for image in hip.slices], "given")
    volume, slices = qmri._prepared(hip.volume, "volume"), [qmri._prepared(image, "slice") for image in hip.slices]
    job = qmri._Job(slices, volume, stack, None, None)
    assert stack.axis is not None
    truth = np.stack([item.matrix for item in hip.transforms])
    start = qmri.Candidate(truth @ qmri.about(stack.axis, 12.0), np.arange(6), np.zeros(6, int), 0.0)
    with torch.no_grad():
        (best,) = qmri._vote(job, [start], PREVIEW, qmri.Progress(None))
    assert errors(list(start.poses), hip)[:, 1].min() > 10.0
    assert np.median(errors(list(best.poses), hip)[:, 1]) < 2.0


def test_one_oblique_slice_is_placed(hip: SlicePhantom) -> None:
    near = Image(hip.slices[0].data, Grid(hip.slices[0].grid.shape, hip.transforms[0].matrix @ hip.slices[0].grid.affine))
    config = PREVIEW.replaced(range_deg=0.0, range_mm=8.0)
    result = qmri.register([near], hip.volume, config)
    centre = np.append(near.grid.centre, 1.0)
    assert np.linalg.norm((result.slices[0].matrix @ centre - centre)[:3]) < 1.2


def test_slices_that_reach_beyond_the_volume_and_are_padded_there(hip: SlicePhantom) -> None:
    """Half of the volume is missing; what the slices hold beyond it is one constant, which is left out and told."""
    keep = hip.volume.grid.cropped((0, 0, 0), (64, 64, 40))
    volume = Image(hip.volume.data[..., :40], keep)
    slices = []
    for image, truth in zip(hip.slices, hip.transforms, strict=True):
        within = emulated_slice(volume.with_data(torch.ones_like(volume.data)), image.grid, truth.matrix).data > 0.99
        slices.append(image.with_data(torch.where(within, image.data, -5.0)))
    result = qmri.register(slices, volume, PREVIEW)
    after = errors([item.matrix for item in result.slices], hip)
    assert after[:, 1].max() < 4.0
    assert np.median(after[:, 0]) < 1.0
    assert sum("was left out" in text for text in result.warnings) == 6


# ---- refusals


def test_what_it_refuses(hip: SlicePhantom) -> None:
    slices, volume = hip.slices, hip.volume
    hull = PREVIEW.replaced(start="hull")
    with pytest.raises(InputError, match="at least one slice"):
        qmri.register([], volume, PREVIEW)
    with pytest.raises(InputError, match="two or more slices at different angles, found one slice"):
        qmri.register(slices[:1], volume, hull, slice_masks=hip.slice_masks[:1], volume_mask=hip.volume_mask)
    with pytest.raises(InputError, match="expected a volume mask"):
        qmri.register(slices, volume, hull, slice_masks=hip.slice_masks)
    with pytest.raises(InputError, match="one mask for each of the 6 slices, found 2"):
        qmri.register(slices, volume, PREVIEW, slice_masks=hip.slice_masks[:2], volume_mask=hip.volume_mask)
    empty = [
        hip.slice_masks[0].with_data(torch.zeros_like(mask.data)) if n == 3 else mask for n, mask in enumerate(hip.slice_masks)
    ]
    with pytest.raises(InputError, match="mask of slice 4 is empty"):
        qmri.register(slices, volume, PREVIEW, slice_masks=empty, volume_mask=hip.volume_mask)
    with pytest.raises(InputError, match="volume mask is empty"):
        blank = hip.volume_mask.with_data(torch.zeros_like(hip.volume_mask.data))
        qmri.register(slices, volume, PREVIEW, slice_masks=hip.slice_masks, volume_mask=blank)
    full = [mask.with_data(torch.ones_like(mask.data)) for mask in hip.slice_masks]
    with pytest.raises(InputError, match="covers 100 % of the picture's border"):
        qmri.register(slices, volume, hull, slice_masks=full, volume_mask=hip.volume_mask)
    with pytest.raises(InputError, match="Slice 2 is constant"):
        flat = slices[1].with_data(torch.full_like(slices[1].data, 7.0))
        qmri.register([slices[0], flat], volume, PREVIEW)
    with pytest.raises(InputError, match="NaN"):
        broken = slices[1].data.clone()
        broken[0, 0, 3, 4] = torch.nan
        qmri.register([slices[0], slices[1].with_data(broken)], volume, PREVIEW)
    with pytest.raises(InputError, match="evice"):
        qmri.register(slices, volume, PREVIEW, device="banana")


def test_slices_beside_the_volume_are_refused_with_the_distance(hip: SlicePhantom) -> None:
    moved = np.eye(4)
    moved[:3, 3] = (400.0, 0.0, 0.0)
    far = [Image(image.data, Grid(image.grid.shape, moved @ image.grid.affine)) for image in hip.slices]
    with pytest.raises(InputError, match=r"do not meet the volume: the nearest lies \d+ mm beside it"):
        qmri.register(far, hip.volume, PREVIEW)


def test_a_touching_silhouette_is_told(hip: SlicePhantom) -> None:
    warnings: list[str] = []
    masks = [mask.data.clone() for mask in hip.slice_masks]
    masks[2][..., :3, 20:40] = 1
    touching = [mask.with_data(data) for mask, data in zip(hip.slice_masks, masks, strict=True)]
    bone, outlines = qmri.slice_outlines.prepare(hip.slices, hip.volume, touching, hip.volume_mask, "auto", warnings)
    assert bone is not None
    assert outlines is not None
    assert any("slice" in text and "3" in text and "touches the border" in text for text in warnings)


def test_a_wrong_silhouette_does_not_pass_for_sure() -> None:
    """In one slice of this noisy hip the outline of a muscle is found, clear and of the usual size, instead of the femur's."""
    hip = make_slice_phantom("hip-radial", 3, size=(48, 48, 48), noise=0.06)
    found = [qmri.slice_outlines.silhouette.automatic(image.data[0, 0].numpy(), (1.0, 1.0)) for image in hip.slices]
    assert all(item.sure for item in found)
    axis = qmri.describe([image.grid for image in hip.slices], "auto").axis
    assert axis is not None
    agreement = qmri.slice_outlines.along_axis([item.mask for item in found], hip.slices, axis)
    assert [n for n, value in enumerate(agreement) if value < 0.75] == [3]
    warnings: list[str] = []
    assert qmri.slice_outlines.prepare(hip.slices, hip.volume, None, hip.volume_mask, "auto", warnings, axis) == (None, None)
    assert any("4 (another part of the common axis" in text and "no hull was built" in text for text in warnings)
    with pytest.raises(InputError, match="give slice masks, or use start=search"):
        qmri.slice_outlines.prepare(hip.slices, hip.volume, None, hip.volume_mask, "hull", warnings, axis)


def test_it_is_registered_for_its_own_command() -> None:
    row = registry.get("slices-qmri")
    assert (row.area, row.command) == ("slices", "slices")
    assert set(row.load().PRESETS) == {"Default", "Preview", "Best"}
