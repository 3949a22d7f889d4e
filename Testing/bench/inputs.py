"""Benchmark inputs on real images: known smooth fields, known sliding fields, expert landmarks, labels.

`python inputs.py DATA -o FOLDER [--inputs a,b]` writes FOLDER/NAME/{fixed,moving,mask}.nrrd and what truth there is:
`truth.nrrd` (u with moving point = x + u(x), LPS mm, on the fixed grid), `region_*.nrrd`, `landmarks_*.csv`
(fixed and moving points, LPS mm), `labels_fixed.nrrd`, `labels_moving.nrrd`, and `meta.json`.
In every synthetic input the moving image is the real one and fixed(x) = moving(x + u(x)), then intensities change and
both get their own noise, so that the truth is exact at every voxel of the fixed grid, sliding surfaces included.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import fields as f
import inputs_body as body
import inputs_brain as brain
import inputs_children as children
import numpy as np
import SimpleITK as sitk
from cases import Case, image_like


def thorax(seed: int) -> Case:
    """The project's own breathing chest phantom; ImportError where regsuite or what it needs is absent."""
    from inputs_phantom import thorax_case  # needs regsuite; everything else here does not

    return thorax_case(seed)


REAL: dict[str, Callable[[Path], Case]] = {
    "liver-19": lambda data: body.liver(data, "dataset19", "cyc_1_9"),
    "liver-23": lambda data: body.liver(data, "dataset23", "cyc_5_4"),
    "mr-sliding": body.mr_sliding,
    "syn": brain.syn,
    "syn-ixi": brain.syn_ixi,
    "ixi-pair": brain.ixi_pair,
    "fetal-28-34": children.fetal,
    "infant-6-24": children.infant,
    "ct-smooth": body.ct_smooth,
    "ct-sliding": body.ct_sliding,
    "lung-4dct": body.lung_4dct,
}
DEFAULT_INPUTS = ["thorax-0", *REAL]
PAIR = re.compile(r"ixi-(\d{3})-(\d{3})")  # fixed and moving subject of brain-ixi
FIELD = re.compile(r"syn-(\d+)")  # `syn` under the field, bias and noise of another seed (its own is 1)


def build(name: str, data: Path) -> Case:
    """Case of that name; FileNotFoundError or RuntimeError when its real data is absent, KeyError for another name."""
    if name.startswith("thorax-"):
        return thorax(int(name.removeprefix("thorax-")))
    if pair := PAIR.fullmatch(name):
        return brain.ixi_pair(data, f"IXI{pair[1]}", f"IXI{pair[2]}")
    if field := FIELD.fullmatch(name):
        return brain.syn(data, int(field[1]))
    return REAL[name](data)


def write_case(name: str, case: Case, folder: Path) -> None:
    """All files of a case; `meta.json` last, so that its presence means the folder is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {"fixed": case.fixed, "moving": case.moving, "mask": image_like(case.mask.astype(bool), case.fixed)}
    images |= {f"region_{key}": image_like(value.astype(bool), case.fixed) for key, value in case.regions.items()}
    if case.labels is not None:
        images |= {"labels_fixed": case.labels[0], "labels_moving": case.labels[1]}
    if case.truth is not None:
        images["truth"] = f.to_field(case.truth, case.fixed)
        det = f.jacobian_determinant(case.truth, case.fixed)[case.mask.astype(bool)]
        case.meta["truth_folding_percent"] = float(100 * (det <= 0).mean())
        case.meta["truth_peak_mm"] = float(np.linalg.norm(case.truth, axis=-1)[case.mask.astype(bool)].max())
    for key, image in images.items():
        sitk.WriteImage(image, str(folder / f"{key}.nrrd"), useCompression=True)
    for key, (fixed_points, moving_points) in case.landmarks.items():
        header = "fixed_x_lps,fixed_y_lps,fixed_z_lps,moving_x_lps,moving_y_lps,moving_z_lps"
        rows = np.hstack([fixed_points, moving_points])
        np.savetxt(folder / f"landmarks_{key}.csv", rows, delimiter=",", header=header, comments="", fmt="%.6f")
    case.meta |= {"name": name, "size": case.fixed.GetSize(), "spacing": case.fixed.GetSpacing()}
    (folder / "meta.json").write_text(json.dumps(case.meta, indent=1))


def prepare(names: list[str], data: Path, folder: Path) -> list[str]:
    """Write what is not there yet; returns the names available. An absent source is told and skipped."""
    ready = []
    for name in names:
        if not (folder / name / "meta.json").exists():
            try:
                case = build(name, data)
            except (RuntimeError, FileNotFoundError, ImportError) as error:
                print(f"input {name} skipped: {str(error).strip().splitlines()[-1]}")
                continue
            write_case(name, case, folder / name)
        ready.append(name)
    return ready


def main() -> None:
    """Command line, see the module's docstring."""
    parser = argparse.ArgumentParser(description="write the benchmark inputs")
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--inputs", default=",".join(REAL))
    args = parser.parse_args()
    print("ready:", ", ".join(prepare(args.inputs.split(","), args.data, args.out)))


if __name__ == "__main__":
    main()
