"""Images through every format: geometry by literal numbers, values, types."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels, write_image

from Testing.unit.io import samples

FORMATS = ("a.nrrd", "a.nii.gz", "a.nii", "a.mha", "a.mhd")


@pytest.mark.parametrize("name", FORMATS)
def test_voxel_lies_where_the_numbers_say(tmp_path, name):
    write_image(samples.image(), tmp_path / name)
    back = read_image(tmp_path / name)
    i, j, k = samples.VOXEL_IJK
    assert back.data.shape == (1, 4, 5, 6)
    assert back.data.dtype == torch.float32
    assert float(back.data[0, k, j, i]) == 2 + 30 + 100 - 7
    where = back.grid.index_to_world(torch.tensor([[2.0, 3.0, 1.0]], dtype=torch.float64))
    np.testing.assert_allclose(where[0], samples.VOXEL_RAS, atol=1e-5)
    np.testing.assert_allclose(back.grid.affine, samples.AFFINE, atol=2e-6)  # NIfTI stores single precision
    torch.testing.assert_close(back.data, samples.image().data, rtol=0, atol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_simpleitk_sees_the_voxel_at_its_lps_place(tmp_path, name):
    write_image(samples.image(), tmp_path / name)
    other = sitk.ReadImage(str(tmp_path / name))
    np.testing.assert_allclose(other.TransformIndexToPhysicalPoint(samples.VOXEL_IJK), samples.VOXEL_LPS, atol=1e-5)
    assert other[samples.VOXEL_IJK] == 125.0


@pytest.mark.parametrize("name", ["m.nrrd", "m.nii.gz", "m.mha"])
def test_mirrored_axis_survives(tmp_path, name):
    mirrored = samples.AFFINE.copy()
    mirrored[:3, 0] *= -1
    write_image(Image(samples.image().data, Grid(samples.SHAPE, mirrored)), tmp_path / name)
    np.testing.assert_allclose(read_image(tmp_path / name).grid.affine, mirrored, atol=2e-6)


@pytest.mark.parametrize("name", ["s.nrrd", "s.mha"])
def test_sheared_grid_survives_where_the_format_holds_it(tmp_path, name):
    sheared = samples.AFFINE.copy()
    sheared[:3, 2] += [0.75, 0.0, 0.5]
    write_image(Image(samples.image().data, Grid(samples.SHAPE, sheared)), tmp_path / name)
    np.testing.assert_allclose(read_image(tmp_path / name).grid.affine, sheared, atol=1e-9)


def test_sheared_grid_is_refused_in_nifti(tmp_path):
    sheared = samples.AFFINE.copy()
    sheared[:3, 2] += [0.75, 0.0, 0.5]
    with pytest.raises(InputError, match="sheared grid"):
        write_image(Image(samples.image().data, Grid(samples.SHAPE, sheared)), tmp_path / "s.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float64, torch.float16, torch.bool])
@pytest.mark.parametrize("name", ["t.nrrd", "t.nii.gz", "t.mha"])
def test_every_type_can_be_written_and_comes_back_as_float32(tmp_path, name, dtype):
    image = Image(samples.image().data.abs().clamp(max=200).to(dtype), samples.grid())
    write_image(image, tmp_path / name)
    torch.testing.assert_close(read_image(tmp_path / name).data, image.data.float(), rtol=0, atol=0)


def test_double_precision_on_request(tmp_path):
    value = 1.0 + 2.0**-40
    write_image(Image(torch.full((1, *samples.SHAPE), value, dtype=torch.float64), samples.grid()), tmp_path / "d.nrrd")
    assert read_image(tmp_path / "d.nrrd", dtype=torch.float64).data[0, 0, 0, 0] == value
    assert read_image(tmp_path / "d.nrrd").data[0, 0, 0, 0] == 1.0


def test_labels_keep_values_above_float_precision(tmp_path):
    labels = samples.image(torch.int32).data * 1000 + 16_777_217  # 2^24 + 1: float32 would lose it
    write_image(Image(labels, samples.grid()), tmp_path / "l.nii.gz")
    back = read_labels(tmp_path / "l.nii.gz")
    assert back.data.dtype == torch.int32
    assert torch.equal(back.data, labels)


def test_labels_stored_as_float_are_accepted_only_when_whole(tmp_path):
    write_image(samples.image(), tmp_path / "whole.nrrd")
    assert torch.equal(read_labels(tmp_path / "whole.nrrd").data, samples.image(torch.int32).data)
    write_image(Image(samples.image().data + 0.5, samples.grid()), tmp_path / "half.nrrd")
    with pytest.raises(InputError, match="120 voxels with fractions"):
        read_labels(tmp_path / "half.nrrd")


def test_labels_beyond_32_bits_are_refused(tmp_path):
    write_image(Image(torch.full(samples.SHAPE, 2**40), samples.grid()), tmp_path / "l.nrrd")
    with pytest.raises(InputError, match="1099511627776"):
        read_labels(tmp_path / "l.nrrd")


def _segmentation(layers: np.ndarray, path) -> None:
    segmentation = sitk.GetImageFromArray(layers, isVector=layers.ndim == 4)
    segmentation.SetSpacing((1.0, 2.0, 3.0))
    segmentation.SetMetaData("Segment0_LabelValue", "4")
    sitk.WriteImage(segmentation, str(path))


def test_segmentation_with_one_layer_is_read_and_with_two_refused(tmp_path):
    array = samples.image(torch.uint8).data[0].numpy()
    _segmentation(array, tmp_path / "one.seg.nrrd")
    assert torch.equal(read_labels(tmp_path / "one.seg.nrrd").data[0], torch.from_numpy(array).int())
    _segmentation(np.stack([array, array], -1), tmp_path / "two.seg.nrrd")
    with pytest.raises(InputError, match="2 layers"):
        read_labels(tmp_path / "two.seg.nrrd")


def test_2d_image_becomes_one_slice(tmp_path):
    flat = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    flat.SetSpacing((0.5, 2.0))
    flat.SetOrigin((10.0, -20.0))
    flat.SetDirection((0.0, -1.0, 1.0, 0.0))
    sitk.WriteImage(flat, str(tmp_path / "f.nrrd"))
    image = read_image(tmp_path / "f.nrrd")
    assert image.data.shape == (1, 1, 3, 4)
    # LPS: i axis = (0, 0.5), j axis = (-2, 0), origin (10, -20); RAS flips both rows.
    expected = [[0.0, 2.0, 0.0, -10.0], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    np.testing.assert_allclose(image.grid.affine, expected, atol=1e-12)
    assert float(image.data[0, 0, 2, 1]) == 9.0


def test_single_slice_round_trip(tmp_path):
    image = samples.image(shape=(1, 5, 6))
    for name in ("s.nrrd", "s.nii.gz", "s.mha"):
        write_image(image, tmp_path / name)
        assert read_image(tmp_path / name).grid == image.grid


def test_4d_with_one_frame_is_3d_and_with_two_is_refused(tmp_path):
    volume = sitk.GetImageFromArray(samples.image().data[0].numpy())
    sitk.WriteImage(sitk.JoinSeries([volume]), str(tmp_path / "one.nrrd"))
    assert read_image(tmp_path / "one.nrrd").data.shape == (1, 4, 5, 6)
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(tmp_path / "two.nrrd"))
    with pytest.raises(InputError, match="expected one 3D volume, found 4D data of 6x5x4x2"):
        read_image(tmp_path / "two.nrrd")


@pytest.mark.parametrize("name", ["v.nrrd", "v.mha", "v.nii.gz", "v.nii"])
def test_vectors_are_ras_here_and_lps_for_itk(tmp_path, name):
    field = samples.field()
    write_image(Image(field.field, field.grid), tmp_path / name, vectors=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    i, j, k = samples.VOXEL_IJK
    x, y, z = (float(v) for v in field.field[:, k, j, i])
    np.testing.assert_allclose(sitk.ReadImage(str(tmp_path / name))[i, j, k], (-x, -y, z), rtol=1e-6)


def test_plain_channels_are_not_flipped(tmp_path):
    image = Image(samples.field().field.abs(), samples.grid())  # e.g. a sigma per axis
    write_image(image, tmp_path / "sigma.nrrd")
    assert torch.equal(read_image(tmp_path / "sigma.nrrd", channels=3).data, image.data)
    with pytest.raises(InputError, match=r"expected 1 value \(grey\) per voxel, found 3"):
        read_image(tmp_path / "sigma.nrrd")
    with pytest.raises(InputError, match="expected vectors of 3 components, found 1"):
        write_image(samples.image(), tmp_path / "x.nrrd", vectors=True)


def test_unknown_extension_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"found '\.jpg'"):
        write_image(samples.image(), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


REAL = [
    ("lung-4dct/exhale_t50.nii.gz", (128, 256, 256), (1.95312, 1.95312, 2.5)),
    ("liver-4dmri/dataset19/cyc_1_9.force_direction.mha", (27, 183, 152), (1.28906, 1.28906, 5.0)),
    ("brain-tumour/small/brain1_image.nrrd", (25, 256, 256), (0.78125, 0.78125, 6.5)),
]


@pytest.mark.parametrize(("name", "shape", "spacing"), REAL)
def test_real_files(name, shape, spacing):
    path = samples.DATA / name
    if not path.exists():
        pytest.skip("real data absent")
    image = read_image(path)
    assert image.grid.shape == shape
    np.testing.assert_allclose(image.grid.spacing, spacing, atol=1e-4)
    lps = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint((7, 11, 13))
    ras = image.grid.index_to_world(torch.tensor([[7.0, 11.0, 13.0]], dtype=torch.float64))[0]
    np.testing.assert_allclose(ras, (-lps[0], -lps[1], lps[2]), atol=1e-6)
