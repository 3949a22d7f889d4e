"""A DICOM folder as one volume: order, geometry, tilt, and the folders that must be refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.io import read_image, read_labels

from Testing.unit.io import samples

# Slice normal: (0, 1, 0) x (0, 0, 1) = +x in LPS. File names run against it.
POSITIONS = [(30.0 + 3.0 * n, -20.0, 5.0) for n in range(5)]


def _series(folder, positions=POSITIONS, series=1, **other):
    folder.mkdir(exist_ok=True)
    for n, position in enumerate(positions):
        samples.write_slice(folder / f"{series}_{9 - n}.dcm", position, 100 * n + 1, series, **other)


def test_series_is_ordered_scaled_and_placed(tmp_path):
    _series(tmp_path / "s")
    image = read_image(tmp_path / "s")
    assert image.data.shape == (1, 5, 3, 4)
    assert float(image.data[0, 2, 1, 3]) == 2 * (201 + 4 + 3) - 1000
    # LPS columns: i = (0, 0.5, 0), j = (0, 0, 2), k = (3, 0, 0), origin (30, -20, 5).
    expected = [[0, 0, -3, -30], [-0.5, 0, 0, 20], [0, 2, 0, 5], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.grid.affine, expected, atol=1e-6)
    assert torch.equal(read_labels(tmp_path / "s").data, image.data.int())


def test_tilted_gantry_is_a_sheared_grid(tmp_path):
    _series(tmp_path / "s", [(x, y + 0.5 * n, z) for n, (x, y, z) in enumerate(POSITIONS)])
    np.testing.assert_allclose(read_image(tmp_path / "s").grid.affine[:3, 2], (-3.0, -0.5, 0.0), atol=1e-6)


def test_one_file_is_one_slice(tmp_path):
    samples.write_slice(tmp_path / "one.dcm", POSITIONS[1], 7)
    image = read_image(tmp_path / "one.dcm")
    assert image.data.shape == (1, 1, 3, 4)
    np.testing.assert_allclose(image.grid.affine[:3, 3], (-33.0, 20.0, 5.0), atol=1e-6)
    assert read_image(tmp_path).data.shape == (1, 1, 3, 4)


def test_several_series_are_listed_and_one_can_be_picked(tmp_path):
    _series(tmp_path / "s")
    _series(tmp_path / "s", POSITIONS[:3], series=2)
    with pytest.raises(InputError, match=r"found 2 \(1: CT phase 1, 5 files; 2: CT phase 2, 3 files\)"):
        read_image(tmp_path / "s")
    assert read_image(f"{tmp_path}/s?series=1").data.shape == (1, 5, 3, 4)
    assert read_image(f"{tmp_path}/s?series={samples.UID}.2").data.shape == (1, 3, 3, 4)
    with pytest.raises(InputError, match="found no series '3'"):
        read_image(f"{tmp_path}/s?series=3")


def test_missing_slice_is_noticed(tmp_path):
    _series(tmp_path / "s", POSITIONS[:2] + POSITIONS[3:])
    with pytest.raises(InputError, match=r"steps of 3 to 6 mm \(4 slices"):
        read_image(tmp_path / "s")


def test_two_slices_at_one_place_are_noticed(tmp_path):
    _series(tmp_path / "s", [*POSITIONS, POSITIONS[2]])
    with pytest.raises(InputError, match="one slice at each place"):
        read_image(tmp_path / "s")


def test_rounded_positions_are_tolerated(tmp_path):
    _series(tmp_path / "s", [(x + (0.01 if n % 2 else -0.01), y, z) for n, (x, y, z) in enumerate(POSITIONS)])
    assert read_image(tmp_path / "s").grid.spacing[2] == pytest.approx(3.0, abs=0.01)


def test_slices_of_different_size_are_refused(tmp_path):
    _series(tmp_path / "s")
    pixels = np.zeros(20, "<i2").tobytes()
    samples.write_slice(tmp_path / "s" / "z.dcm", (45.0, -20.0, 5.0), 900, Rows=5, PixelData=pixels)
    with pytest.raises(InputError, match="slices that differ"):
        read_image(tmp_path / "s")


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="DICOM series, found none"):
        read_image(tmp_path)


def test_cut_slice_is_noticed(tmp_path):
    _series(tmp_path / "s")
    victim = tmp_path / "s" / "1_7.dcm"
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(InputError):
        read_image(tmp_path / "s")


def test_real_dose_comes_in_gray():
    path = samples.DATA / "rt-dicom" / "rtdose.dcm"
    if not path.exists():
        pytest.skip("real data absent")
    dose = read_image(path)
    assert dose.data.shape == (1, 98, 129, 194)
    assert float(dose.data.max()) == pytest.approx(14.68, abs=0.01)  # 1048626 x 1.4e-5
    np.testing.assert_allclose(dose.grid.affine[:3, 3], (228.6541915, 419.2444776, -122.4407), atol=1e-6)
