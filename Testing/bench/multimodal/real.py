"""Real pairs: one patient in several sequences, thick slices, prostate MR and ultrasound; and pairs with nothing in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_transform
from regsuite.methods import registry
from regsuite.ops.filters import downsample
from regsuite.ops.sampling import resample
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

from Testing.bench.multimodal import contrasts, engines, poses

Task = tuple[str, Callable[[], dict[str, Any]]]
_SEQUENCES = (("t1", "t2"), ("t2", "flair"), ("flair", "t1"))


def tasks(data: Path, preset: str, count: int) -> Iterator[Task]:
    """Everything real whose data is there."""
    if (data / "brain-longitudinal").is_dir():
        yield from _longitudinal(data / "brain-longitudinal", preset)
    if (data / "prostate-mr-us").is_dir():
        yield from _prostate(data / "prostate-mr-us", preset)
    if (data / "brain-tumour").is_dir():
        yield from _sequences(data / "brain-tumour" / "BraTSReg_002", preset, count)


def _sequences(folder: Path, preset: str, count: int) -> Iterator[Task]:
    """T1, T2, FLAIR of one visit, skull-stripped, aligned by the authors, under the paper's displacements; thick slices."""

    def image(name: str) -> Image:
        found = read_image(folder / f"BraTSReg_002_00_0000_{name}.nii.gz")
        return found.with_data(found.data.float())

    for pose in range(count):
        for number, (a, b) in enumerate(_SEQUENCES):

            def task(a: str = a, b: str = b, seed: int = 90_000 + 1000 * number + pose) -> dict[str, Any]:
                case = poses.displaced(image(a), image(b), ("", ""), seed)
                return engines.measured(f"csngf-{preset}", case) | {"group": f"real {a}/{b}"}

            yield f"sequences-csngf-{preset}-{a}-{b}-{pose:02d}", task
        if pose < 6:

            def thick(pose: int = pose) -> dict[str, Any]:
                fixed, source = image("t1"), image("flair")
                shape = [(24, 240, 240), (155, 37, 240), (155, 240, 37)][pose % 3]
                slices = Image(downsample(source.data, shape), source.grid.resized(shape))
                header = poses.random_pose(np.random.default_rng(70_000 + pose), fixed.grid.centre, 50.0)
                moving = Image(slices.data, Grid(shape, header @ slices.grid.affine))
                return engines.measured(f"csngf-{preset}", poses.Case(fixed, moving, header)) | {"group": "thick 6.5 mm / 1 mm"}

            yield f"thick-csngf-{preset}-{pose:02d}", thick


def _longitudinal(folder: Path, preset: str) -> Iterator[Task]:
    """FLAIR of study 1 to study 2, and T1 to FLAIR, against the authors' transforms; headers as they are, and turned."""
    raw = folder / "patient01"

    def task(a: str, b: str, turned: bool) -> dict[str, Any]:
        to_fixed = read_transform(raw / "study1_FLAIR_to_common_space.txt")
        if b == "study2_FLAIR":
            to_moving = read_transform(raw / "study2_FLAIR_to_common_space.txt")
            truth = to_moving.matrix @ np.linalg.inv(to_fixed.matrix)
        else:
            truth = read_transform(raw / f"{b}_intrastudy_to_FLAIR.txt").matrix
        fixed, moving = read_image(raw / f"{a}.nii.gz"), read_image(raw / f"{b}.nii.gz")
        header = np.eye(4)
        if turned:
            header[:3, :3], header[:3, 3] = Rotation.from_euler("x", 90, degrees=True).as_matrix(), (70.0, 0.0, 0.0)
        moving = Image(moving.data, Grid(moving.grid.shape, header @ moving.grid.affine))
        row = engines.measured(f"csngf-{preset}", poses.Case(fixed, moving, header @ truth))
        brain = read_image(folder / "patient01-coregistered" / "brainmask.nii.gz")
        index = torch.nonzero(brain.data[0] > 0)[::97].flip(1).double()
        points = to_fixed.map_points(brain.grid.index_to_world(index))
        gap = AffineTransform(np.array(row["matrix"])).map_points(points) - AffineTransform(header @ truth).map_points(points)
        return row | {"error_mm": round(float(gap.norm(dim=1).mean()), 3), "group": f"{a} / {b}{' turned' if turned else ''}"}

    for a, b in (("study1_FLAIR", "study2_FLAIR"), ("study1_FLAIR", "study1_T1W")):
        for turned in (False, True):
            yield f"longitudinal-csngf-{preset}-{b}-{int(turned)}", lambda a=a, b=b, turned=turned: task(a, b, turned)


def _prostate(folder: Path, preset: str) -> Iterator[Task]:
    """Gland Dice before and after, ultrasound fixed, MR moving, headers as they are."""

    def gland(path: Path, grid: Grid) -> Image:
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        return Image(torch.from_numpy(labels.reshape(-1, *grid.shape)[:1] > 0).float(), grid)

    def task(name: str) -> dict[str, Any]:
        fixed, moving = (read_image(folder / kind / name) for kind in ("us_images", "mr_images"))
        target, source = gland(folder / "us_labels" / name, fixed.grid), gland(folder / "mr_labels" / name, moving.grid)
        began = time.process_time()
        config = registry.config_for("multimodal-csngf", preset)
        result = registry.get("multimodal-csngf").load().register(fixed, moving, config)
        row: dict[str, Any] = {"cpu_s": round(time.process_time() - began, 2), "confidence": result.confidence}
        for key, transform in (("dice_before", AffineTransform.identity()), ("dice_after", result.transform)):
            moved = resample(source, fixed.grid, transform, fill=0.0).data > 0.5
            row[key] = round(float(2.0 * (moved & (target.data > 0)).sum() / (moved.sum() + target.data.sum())), 4)
        return row | {"group": "prostate", "method": f"csngf-{preset}"}

    for path in sorted((folder / "mr_images").iterdir()):
        yield f"prostate-csngf-{preset}-{path.name.partition('.')[0]}", lambda name=path.name: task(name)


def unrelated(data: Path, preset: str) -> Iterator[Task]:
    """20 pairs of a head (each modality, displaced) and a part of an abdomen: the confidence must be low."""

    def task(seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(50_000 + seed)
        modality = contrasts.MODALITIES[seed % 4]
        image = contrasts.head(data / "brain-mni")[modality]
        brain = poses.displaced(image, image, (modality, modality), 50_000 + seed).fixed
        abdomen = read_image(data / "abdomen-ct" / "ct.nii.gz")
        shape = [int(rng.integers(50, n + 1)) for n in abdomen.grid.shape]
        first = [int(rng.integers(0, n - m + 1)) for n, m in zip(abdomen.grid.shape, shape, strict=True)]
        grid = abdomen.grid.cropped((first[0], first[1], first[2]), (shape[0], shape[1], shape[2]))
        part = resample(abdomen, grid, None, "nearest")
        pair = (brain, part) if seed % 2 else (part, brain)
        row = engines.measured(f"csngf-{preset}", poses.Case(*pair, np.eye(4)))
        return {key: row[key] for key in ("cpu_s", "confidence", "method", "scores")} | {"group": "unrelated"}

    for seed in range(20):
        yield f"unrelated-csngf-{preset}-{seed:02d}", lambda seed=seed: task(seed)
    yield from _strangers(data, preset)


def _strangers(data: Path, preset: str) -> Iterator[Task]:
    """20 more pairs that no threshold was chosen on: six real heads against a real trunk (MR livers, CT thorax, CT abdomen)."""
    heads = sorted((data / "brain-ixi").glob("*_ds.nii.gz"))
    livers = sorted((data / "liver-4dmri").glob("*/exhMaster*.mha"))
    trunks = [*livers[:1], *livers[-1:], data / "lung-4dct" / "exhale_t50.nii.gz", data / "abdomen-ct" / "ct.nii.gz"]

    def task(head: Path, trunk: Path, seed: int) -> dict[str, Any]:
        a, b = (image.with_data(image.data.float()) for image in (read_image(head), read_image(trunk)))
        header = poses.random_pose(np.random.default_rng(60_000 + seed), b.grid.centre, 50.0)
        b = Image(b.data, Grid(b.grid.shape, header @ b.grid.affine))
        row = engines.measured(f"csngf-{preset}", poses.Case(*((a, b) if seed % 2 else (b, a)), np.eye(4)))
        return {key: row[key] for key in ("cpu_s", "confidence", "method", "scores")} | {"group": "unrelated, new"}

    if heads and all(trunk.exists() for trunk in trunks):
        for seed in range(20):
            pair = heads[seed % len(heads)], trunks[seed // 2 % len(trunks)]
            yield f"strangers-csngf-{preset}-{seed:02d}", lambda pair=pair, seed=seed: task(*pair, seed)
