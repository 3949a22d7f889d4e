"""Streams of pairs: the same for a seed and number, true to the voxel, sliding, from phantoms, scans, pairs and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from regsuite.cli import run
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io.volumes import write_image
from regsuite.methods.lung import vxmpp
from regsuite.methods.pediatric import unet
from regsuite.nets.fields import sample
from regsuite.nets.pair import voxels, world_mm
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.phantoms.synthetic import breathing, growth, random_contrast, streamed_pair
from regsuite.pipeline.training_data import open_source
from regsuite.pipeline.training_report import validate
from regsuite.solvers.training import LoopSettings, Trainer

from Testing.unit.training import scans


def config(**changes: object) -> unet.Training:
    return unet.Training(**{**scans.TINY, **changes})


def block() -> tuple[Image, Image]:
    """An image and the part of it that slides, 5 mm voxels."""
    image = scans.image(3, (24, 28, 26))
    grid = Grid(image.grid.shape, np.diag([5.0, 5.0, 5.0, 1.0]))
    mask = torch.zeros(1, *grid.shape)
    mask[:, 5:18, 8:20, 5:12] = 1.0
    return Image(image.data.clamp(0, 1), grid), Image(mask, grid)


def test_a_pair_is_its_seed_and_number() -> None:
    image, mask = block()
    one, same, other = (streamed_pair(image, 1, n, "breathing", mask) for n in (4, 4, 5))
    assert torch.equal(one.fixed, same.fixed)
    assert torch.equal(one.truth, same.truth)
    assert not torch.equal(one.truth, other.truth)
    assert 0.0 <= float(one.fixed.min()) <= float(one.fixed.max()) <= 1.0


def test_truth_joins_the_masks_and_nothing_folds() -> None:
    image, mask = block()
    for number in range(4):
        pair = streamed_pair(image, 0, number, "breathing", mask)
        moved = sample(pair.moving_mask, pair.truth) > 0.5
        assert torch.equal(moved.float(), pair.fixed_mask)
        mm = world_mm(pair.truth, pair.grid)
        assert float(mm.norm(dim=0).mean()) > 1.0
        assert float((jacobian_determinant(mm, pair.grid) <= 0).float().mean()) < 0.002


def test_lungs_slide_and_other_tissue_does_not() -> None:
    """Beside the border the motion along it jumps, by far more than without lungs."""
    image, mask = block()
    jumps = {}
    for name, lungs in (("with", mask.data[None]), ("without", None)):
        found = []
        for seed in range(6):
            mm = world_mm(breathing(image.grid, np.random.default_rng(seed), lungs), image.grid)
            found.append(float((mm[2, 6:12, 10:18, 4] - mm[2, 6:12, 10:18, 5]).abs().mean()))
        jumps[name] = float(np.mean(found))
    assert jumps["with"] > 2.0 * jumps["without"]


def test_growth_is_smooth_and_one_to_one() -> None:
    grid = block()[0].grid
    for seed in range(3):
        mm = world_mm(growth(grid, np.random.default_rng(seed)), grid)
        assert 0.2 < float(jacobian_determinant(mm, grid).min()) <= float(jacobian_determinant(mm, grid).max()) < 3.0


def test_voxels_and_millimetres_agree_on_oblique_grids() -> None:
    grid = scans.image(0).grid
    mm = torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(world_mm(voxels(mm, grid), grid), mm, atol=1e-5)


def test_contrast_follows_the_labels_alone() -> None:
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.int16)
    labels[:, 4:12, 4:12, 4:12] = 3
    image = Image(labels, Grid((16, 16, 16), np.eye(4)))
    seen = [random_contrast(image, 0, n).data for n in (0, 0, 1, 2)]
    assert torch.equal(seen[0], seen[1])
    means = [float(s[0, 6:10, 6:10, 6:10].mean()) for s in seen[1:]]
    assert max(means) - min(means) > 0.05
    assert float(seen[0][0, 0].max()) < 0.1


def test_a_folder_of_scans_holds_some_out(tmp_path: Path) -> None:
    folder = scans.folder(tmp_path)
    source = open_source(str(folder), "thorax", "breathing", config(), 0)
    assert len(source.held_out) == 1
    assert "3 scans" in source.name
    pair = source.train(0)
    assert max(pair.grid.shape) == 16
    assert torch.equal(open_source(str(folder), "thorax", "breathing", config(), 0).train(0).fixed, pair.fixed)
    with pytest.raises(InputError, match="expected at least 7 scans"):
        open_source(str(folder), "thorax", "breathing", config(validation_subjects=6), 0)


def test_a_folder_of_pairs(tmp_path: Path) -> None:
    scans.folder(tmp_path)
    labels = scans.image(0)
    write_image(labels.with_data((labels.data > 1).to(torch.int16)), tmp_path / "a_labels.nrrd")
    header = "fixed,moving,fixed_labels,moving_labels\n"
    (tmp_path / "pairs.csv").write_text(header + "scan_0.nrrd,scan_1.nrrd,a_labels.nrrd,a_labels.nrrd\n")
    with pytest.raises(InputError, match="at least 2 rows"):
        open_source(str(tmp_path), "thorax", "breathing", config(), 0)
    with (tmp_path / "pairs.csv").open("a") as stream:
        stream.write("scan_2.nrrd,scan_3.nrrd,,\n")
    source = open_source(str(tmp_path), "thorax", "breathing", config(), 0)
    assert source.train(0).fixed_labels.unique().tolist() == [0, 1]
    assert source.held_out[0].truth is None
    (tmp_path / "pairs.csv").write_text("fixed,moved\na,b\nc,d\n")
    with pytest.raises(InputError, match="columns"):
        open_source(str(tmp_path), "thorax", "breathing", config(), 0)


def test_matched_keypoints_stand_in_for_a_motion_that_is_not_known(tmp_path: Path) -> None:
    """The same scan in another place: the matches find the shift, the heatmap network learns from them, validation uses them."""
    scan, shift = scans.image(1, (30, 32, 34)), np.array([4.0, -6.0, 5.0])
    moved = scan.grid.affine.copy()
    moved[:3, 3] += shift
    write_image(scan, tmp_path / "fixed.nrrd")
    write_image(Image(scan.data, Grid(scan.grid.shape, moved)), tmp_path / "moving.nrrd")
    (tmp_path / "pairs.csv").write_text("fixed,moving\n" + 2 * "fixed.nrrd,moving.nrrd\n")
    settings = vxmpp.Training(voxels=24, validation_subjects=1, answered=64)
    source = open_source(str(tmp_path), "thorax", "breathing", settings, 0)
    pair = source.train(3)
    assert pair.truth is None and pair.points is not None and pair.moves is not None
    found = pair.grid.index_to_world((pair.points + pair.moves).double()) - pair.grid.index_to_world(pair.points.double())
    assert np.median(np.linalg.norm(found.numpy() - shift, axis=1)) < 1.5  # voxels of 4 mm
    values = Trainer(vxmpp.task(settings), LoopSettings(1, 1e-3), source.train).step()
    assert set(values) == {"loss", "error_voxels"}
    figures = validate(vxmpp.task(settings), vxmpp.task(settings).build(), source.held_out, torch.device("cpu"))
    assert figures["tre_before_mm"] == pytest.approx(np.linalg.norm(shift), abs=1.0)
    plain = open_source(str(tmp_path), "thorax", "breathing", settings.replaced(matches=False), 0).train(3)
    assert plain.points is None


def test_phantoms_held_out_are_other_subjects() -> None:
    source = open_source("phantom", "thorax", "breathing", config(voxels=24, subjects=1, real_share=1.0), 0)
    held, train = source.held_out[0], source.train(0)
    assert train.truth is not None
    assert not torch.equal(train.truth, held.truth)
    assert float(world_mm(train.truth, train.grid)[:, train.fixed_mask[0, 0] > 0.5].norm(dim=0).mean()) > 8.0
    assert set(train.fixed_labels.unique().tolist()) >= {0, 1, 2, 7}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["lung-none"], "cannot be trained"),
        (["pediatric-unet", "--set", "stepz=3"], "Unknown setting"),
        (["pediatric-unet", "--set", "steps=0"], "steps"),
        (["pediatric-unet", "--data", "nowhere"], "expected a folder"),
        (["pediatric-unet", "--device", "banana"], "device"),
    ],
)
def test_bad_requests_are_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", *arguments, "-o", "run", "-q"]) == 2
    said = capsys.readouterr().err.strip()
    assert text in said
    assert "\n" not in said
    assert not (tmp_path / "run").exists(), "something was left behind"
