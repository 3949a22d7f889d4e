"""Small BIDS datasets of phantom children."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from regsuite.io import write_image
from regsuite.phantoms import make_phantom


def write_bids(
    root: Path, subjects: int, ages: Sequence[float] = (2.0, 4.0), size: tuple[int, int, int] = (32, 36, 32), dseg: bool = False
) -> Path:
    """root/sub-NN/ses-N/anat/sub-NN_ses-N_T1w.nii.gz with sessions.tsv; dseg: the first session's labels as well."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "phantom children", "BIDSVersion": "1.9.0"}))
    for number in range(1, subjects + 1):
        subject = f"sub-{number:02d}"
        child = make_phantom("growth", number, size=size, ages=tuple(ages))
        rows = ["session_id\tage"]
        for visit, scan in enumerate(child.series, start=1):
            anatomy = root / subject / f"ses-{visit}" / "anat"
            anatomy.mkdir(parents=True, exist_ok=True)
            write_image(scan.image, anatomy / f"{subject}_ses-{visit}_T1w.nii.gz")
            if dseg and visit == 1:
                write_image(scan.labels, anatomy / f"{subject}_ses-{visit}_dseg.nii.gz")
            rows.append(f"ses-{visit}\t{scan.age_years:g}")
        (root / subject / f"{subject}_sessions.tsv").write_text("\n".join(rows) + "\n")
    return root
