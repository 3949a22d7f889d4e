"""`regsuite demo`: a phantom, its registration, and how far from the truth it came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regsuite import check
from regsuite.io import read_transform
from regsuite.io.atomic import staged_folder
from regsuite.metrics import error_summary
from regsuite.phantoms import Phantom, make_phantom
from regsuite.pipeline.phantom import write_phantom
from regsuite.pipeline.register import REPORT, TRANSFORM, run_registration
from regsuite.pipeline.request import RegistrationRequest
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import Transform

DEMOS = {"lung": ("thorax", "lung-convex"), "tumour": ("brain-tumour", "tumour-wm")}
"""Area -> (phantom, method)."""


def run_demo(
    area: str, out: Path, progress: ProgressCallback | None = None, *, seed: int = 0, **options: Any
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Write data/ (phantom), result/ (registration) and truth.json to `out`; returns (report, truth, out).

    options: of the phantom. The registration sees the two images (and a lesion's mask) only; masks, labels, landmarks and the
    true field measure it. Raises InputError for an unknown area, OutputError when `out` cannot be written.
    """
    phantom_name, method = DEMOS[check.choice("area", area, tuple(DEMOS))]
    stages = Progress(progress)
    with staged_folder(out) as folder:
        with stages.stage("Making the phantom", 0.0, 0.15):
            phantom = make_phantom(phantom_name, seed, **options)
        data, result = folder / "data", folder / "result"
        data.mkdir()
        with stages.stage("Writing the phantom", 0.15, 0.2):
            write_phantom(phantom, data, stages.step)

        def share(fraction: float, stage: str, detail: str) -> object:
            return None if progress is None else progress(0.2 + 0.78 * fraction, stage, detail)

        run_registration(_request(method, data, result), share)
        with stages.stage("Comparing with the truth", 0.98, 1.0):
            truth = field_error(phantom, read_transform(result / TRANSFORM))
        (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
        report = json.loads((result / REPORT).read_text(encoding="utf-8"))
    return report, truth, out


def _request(method: str, data: Path, result: Path) -> RegistrationRequest:
    return RegistrationRequest(
        method=method,
        fixed=str(data / "fixed.nrrd"),
        moving=str(data / "moving.nrrd"),
        out=str(result),
        fixed_labels=str(data / "fixed_labels.nrrd"),
        moving_labels=str(data / "moving_labels.nrrd"),
        fixed_landmarks=str(data / "fixed_landmarks.mrk.json"),
        moving_landmarks=str(data / "moving_landmarks.mrk.json"),
        lesion_mask=str(lesion) if (lesion := data / "lesion_mask.nrrd").is_file() else None,
    )


def field_error(phantom: Phantom, transform: Transform) -> dict[str, Any]:
    """|T(x) - T_true(x)| and |x - T_true(x)| in mm over the voxels of the fixed mask: {mean, std, median, p95, max}."""
    inside = phantom.fixed_mask.data[0] > 0
    points = phantom.fixed.grid.index_to_world(inside.nonzero().flip(1).double())
    true = phantom.transform.map_points(points)
    return {
        "region": "lungs" if phantom.name == "thorax" else "fixed mask",
        "voxels": len(points),
        "before_mm": error_summary((points - true).norm(dim=1)),
        "after_mm": error_summary((transform.map_points(points) - true).norm(dim=1)),
    }
