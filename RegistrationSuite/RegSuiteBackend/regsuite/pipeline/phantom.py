"""Phantoms as files: the pair of images and everything that is known about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from regsuite import check
from regsuite.io import write_image, write_landmarks, write_transform
from regsuite.io.atomic import staged_folder
from regsuite.phantoms import PHANTOMS, SLICE_PHANTOMS, Phantom, SlicePhantom, make_phantom, make_slice_phantom
from regsuite.pipeline.report import geometry, versions
from regsuite.progress import Progress, ProgressCallback

TRUE_TRANSFORM = "true_transform.nrrd"


def run_phantom(
    name: str, out: Path, seed: int = 0, size: tuple[int, int, int] | None = None, progress: ProgressCallback | None = None
) -> Path:
    """Make phantom `name` and write it to the folder `out`, all or nothing; size is voxels along i, j, k.

    Raises InputError for an unknown name or an impossible size, OutputError when `out` cannot be written.
    """
    stages = Progress(progress)
    with staged_folder(out) as folder:
        with stages.stage("Making the phantom", 0.0, 0.7):
            options = {} if size is None else {"size": size}
            check.choice("phantom", name, (*PHANTOMS, *SLICE_PHANTOMS))
            phantom = make_slice_phantom(name, seed, **options) if name in SLICE_PHANTOMS else make_phantom(name, seed, **options)
        with stages.stage("Writing", 0.7, 1.0):
            if isinstance(phantom, SlicePhantom):
                write_slice_phantom(phantom, folder, stages.step)
            else:
                write_phantom(phantom, folder, stages.step)
    return out


def write_phantom(phantom: Phantom, folder: Path, tick: Callable[[float], None] = lambda fraction: None) -> None:
    """fixed, moving (.nrrd), *_mask, *_labels, *_landmarks.mrk.json, true_transform.nrrd (on the fixed grid), phantom.json.

    A phantom with a lesion also writes lesion_mask.nrrd. A phantom with a series also writes time_NN.nrrd, time_NN_labels,
    time_NN_mask and time_NN_to_anatomy (displacement of the exact map from the scan to the anatomy all scans share).
    Further images and maps of a phantom are written under their own names.
    """
    for number, side in enumerate(("fixed", "moving")):
        write_image(getattr(phantom, side), folder / f"{side}.nrrd")
        tick(0.1 + 0.4 * number)
        for kind in ("mask", "labels"):
            write_image(getattr(phantom, f"{side}_{kind}"), folder / f"{side}_{kind}.nrrd")
        write_landmarks(getattr(phantom, f"{side}_landmarks"), folder / f"{side}_landmarks.mrk.json")
        tick(0.3 + 0.4 * number)
    if phantom.lesion_mask is not None:
        write_image(phantom.lesion_mask, folder / "lesion_mask.nrrd")
    write_transform(phantom.transform, folder / TRUE_TRANSFORM, phantom.fixed.grid)
    for number, scan in enumerate(phantom.series, start=1):
        stem = f"time_{number:02d}"
        write_image(scan.image, folder / f"{stem}.nrrd")
        write_image(scan.labels, folder / f"{stem}_labels.nrrd")
        write_image(scan.mask, folder / f"{stem}_mask.nrrd")
        write_transform(scan.to_anatomy, folder / f"{stem}_to_anatomy.nrrd", scan.image.grid)
        tick(0.7 + 0.3 * number / len(phantom.series))
    for name, image in phantom.images.items():
        write_image(image, folder / f"{name}.nrrd")
    for name, mapping in phantom.maps.items():
        write_transform(mapping, folder / f"{name}.nrrd", phantom.fixed.grid)
    facts = {
        "name": phantom.name,
        "seed": phantom.seed,
        "notes": phantom.notes,
        "labels": {str(number): name for number, name in phantom.label_names.items()},
        "landmarks": len(phantom.fixed_landmarks),
        "inputs": {"fixed": geometry(phantom.fixed), "moving": geometry(phantom.moving)},
        "transform": "maps fixed points to moving points (RAS mm); displacement in mm on the fixed grid",
        "versions": versions(),
    }
    if phantom.series:
        facts["ages_years"] = [scan.age_years for scan in phantom.series]
    (folder / "phantom.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def write_slice_phantom(phantom: SlicePhantom, folder: Path, tick: Callable[[float], None] = lambda fraction: None) -> None:
    """volume, volume_mask, volume_labels, volume_<value> (the truth); slice_NN, slice_NN_mask, slice_NN_<value>, slice_NN_true.h5.

    slice_NN_true.h5 maps the slice's given position to its true one in the volume.
    """
    for name, image in {
        "volume": phantom.volume,
        "volume_mask": phantom.volume_mask,
        "volume_labels": phantom.volume_labels,
        **{f"volume_{name}": image for name, image in phantom.maps.items()},
    }.items():
        write_image(image, folder / f"{name}.nrrd")
        tick(0.1)
    for n, image in enumerate(phantom.slices):
        stem = f"slice_{n + 1:02d}"
        write_image(image, folder / f"{stem}.nrrd")
        write_image(phantom.slice_masks[n], folder / f"{stem}_mask.nrrd")
        for name, images in phantom.slice_values.items():
            write_image(images[n], folder / f"{stem}_{name}.nrrd")
        write_transform(phantom.transforms[n], folder / f"{stem}_true.h5")
        tick(0.4 + 0.6 * (n + 1) / len(phantom.slices))
    facts = {
        "name": phantom.name,
        "seed": phantom.seed,
        "notes": phantom.notes,
        "labels": {str(number): name for number, name in phantom.label_names.items()},
        "order": list(phantom.order),
        "reversed": list(phantom.reversed),
        "inputs": {"volume": geometry(phantom.volume), "slice": geometry(phantom.slices[0])},
        "versions": versions(),
    }
    (folder / "phantom.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
