"""DVHs beside those of other systems on the same dose and contours, with every treatment of the ends; writes REFERENCE.md.

rt-ent: Eclipse and CERR (SlicerRT's tables there are histograms of the surface layer, no DVHs of volumes). rt-dicom: the curves in
the RTDOSE, and dicompyler-core run on the same files.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "RegistrationSuite" / "RegSuiteBackend")]

from regsuite.dose.dvh import structure_histogram  # noqa: E402
from regsuite.dose.occupancy import ENDS  # noqa: E402
from regsuite.dose.structures import load_structures  # noqa: E402
from regsuite.io.rt_dose import read_dose  # noqa: E402

PRESCRIPTION_GY = 14.0
"""Of rt-dicom's plan: its DVH mean doses are percentages of it."""
PEER = """
import json, sys
from dicompylercore import dicomparser, dvhcalc
out = {}
for key, item in dicomparser.DicomParser(sys.argv[1]).GetStructures().items():
    try:
        dvh = dvhcalc.get_dvh(sys.argv[1], sys.argv[2], key)
        out[item["name"]] = [float(dvh.volume), float(dvh.mean), float(dvh.D95.value), float(dvh.D2cc.value)]
    except Exception as error:
        out[item["name"]] = None
print(json.dumps(out))
"""


@dataclass(frozen=True)
class Facts:
    """Volume cc, and mean, D95, D2cc in Gy."""

    volume: float
    mean: float
    d95: float
    d2cc: float


def main() -> None:
    """Both cases, three ends each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with rt-ent and rt-dicom")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("REFERENCE.md"))
    args = parser.parse_args()
    lines = ["# DVHs beside other systems", ""]
    lines += ["Made by `python Testing/bench/dose/reference.py --data FOLDER --peers-python PYTHON`."]
    lines += ["Each cell: volume cc / mean Gy / D95 Gy / D2cc Gy.", ""]
    lines += [*ent(args.data / "rt-ent"), *dicom(args.data / "rt-dicom", args.peers_python)]
    args.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ours(dose_path: Path, sources: list[str], space: str | None, ends: str) -> dict[str, Facts]:
    """Our numbers by structure."""
    dose = read_dose(dose_path).image
    found = {}
    for item in load_structures(sources, float(dose.grid.spacing.min()), space, ends):
        h = structure_histogram(dose, item.occupancy)
        found[item.name] = Facts(h.total_cc, h.mean_gy, h.dose_at(0.95 * h.total_cc), h.dose_at(2.0))
    return found


def of_curve(dose: np.ndarray, percent: np.ndarray, volume: float, mean: float | None = None) -> Facts:
    """Numbers of a cumulative curve: mean by the trapezoidal rule, the rest by linear interpolation."""
    order = -percent
    at = [float(np.interp(-share, order, dose)) for share in (95.0, 100.0 * min(1.0, 2.0 / volume))]
    area = float(np.trapezoid(percent, dose) / 100.0) if mean is None else mean
    return Facts(volume, area, at[0], at[1] if volume > 2.0 else float("nan"))


def table_of(path: Path) -> dict[str, Facts]:
    """A csv with a pair of columns per structure, the volume in the title of the second."""
    with path.open(newline="") as stream:
        head, *rows = list(csv.reader(stream))
    found = {}
    for column in range(0, len(head) - 1, 2):
        match = re.match(r"(.*)_DvhArray Value \(% of ([\d.]+) cc\)", head[column + 1])
        if match is None:
            continue
        pairs = np.array([(float(r[column]), float(r[column + 1])) for r in rows if len(r) > column + 1 and r[column + 1]])
        found[plain(match[1])] = of_curve(pairs[:, 0], pairs[:, 1], float(match[2]))
    return found


def plain(name: str) -> str:
    """Names without signs: 'Optic Nerve-Lt' and 'OpticNerveLt' are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def ent(folder: Path) -> list[str]:
    """The table of rt-ent."""
    surfaces = sorted((folder / "EclipseEnt_Structures.seg").glob("*.vtp"), key=lambda p: int(p.stem.rpartition("_")[2]))
    mine = {e: ours(folder / "EclipseEnt_Dose.nrrd", [str(p) for p in surfaces], "RAS", e) for e in ENDS}
    systems = {name: table_of(folder / f"EclipseEnt_DvhTable_{name}.csv") for name in ("Eclipse", "CERR")}
    lines = ["## rt-ent", "", f"| structure | {' | '.join([*systems, *ENDS])} |", "|---" * (1 + len(systems) + len(ENDS)) + "|"]
    border = layer(folder / "EclipseEnt_DvhMetrics_DoseSurfaceHistogram_Inside_SlicerRT.csv")
    gaps: list[str] = []
    counts = dict.fromkeys([*ENDS, "CERR", "slab to CERR"], (0, 0))
    for name in mine["slab"]:
        known = {key: found.get(plain(name)) for key, found in systems.items()}
        cells = [cell(known[key]) for key in systems] + [cell(mine[e][name]) for e in ENDS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        eclipse, cerr = known["Eclipse"], known["CERR"]
        if eclipse is None or cerr is None:
            continue
        row = [f"| {name} "]
        pairs = [*((e, mine[e][name], eclipse) for e in ENDS), ("CERR", cerr, eclipse), ("slab to CERR", mine["slab"][name], cerr)]
        for key, facts, other in pairs:
            text, good, asked = differences(facts, other, border.get(plain(name), 0.0))
            counts[key] = (counts[key][0] + good, counts[key][1] + asked)
            row.append(f"| {text} ")
        gaps.append("".join(row) + "|")
    lines += ["", "Differences from Eclipse (last: slab from CERR) in %: volume / mean / D95 / D2cc; * beyond 1 / 0.5 / 1 / 1 %."]
    lines += ["A volume may also differ by one dose voxel's border (the layer in SlicerRT's table of surfaces).", ""]
    lines += [f"| structure | {' | '.join(counts)} |", "|---" * (1 + len(counts)) + "|", *gaps]
    within = ", ".join(f"{key} {good} of {asked}" for key, (good, asked) in counts.items())
    return [*lines, "", f"Within the limits: {within}.", ""]


def cell(facts: Facts | None) -> str:
    """One cell of a table."""
    if facts is None:
        return "-"
    return " / ".join("-" if not np.isfinite(v) else f"{v:.4g}" for v in (facts.volume, facts.mean, facts.d95, facts.d2cc))


def layer(path: Path) -> dict[str, float]:
    """Structure -> cc of the dose voxels along the inside of its surface."""
    with path.open(newline="") as stream:
        return {plain(row["Structure"]): float(row["Volume (cc)"]) for row in csv.DictReader(stream)}


def differences(facts: Facts, other: Facts, border_cc: float = 0.0) -> tuple[str, int, int]:
    """In %, and how many of how many lie within the limits."""
    parts, good, asked = [], 0, 0
    for name, limit in (("volume", 1.0), ("mean", 0.5), ("d95", 1.0), ("d2cc", 1.0)):
        a, b = getattr(facts, name), getattr(other, name)
        if not (np.isfinite(a) and np.isfinite(b)) or b < 0.05:
            parts.append("-")
            continue
        gap = 100.0 * (a / b - 1.0)
        within = abs(gap) <= limit or (name == "volume" and abs(a - b) <= border_cc)
        good, asked = good + within, asked + 1
        parts.append(f"{gap:+.1f}{'' if within else '*'}")
    return " / ".join(parts), good, asked


def dicom(folder: Path, peers_python: str) -> list[str]:
    """The table of rt-dicom."""
    files = (folder / "rtss.dcm", folder / "rtdose.dcm")
    mine = {e: ours(files[1], [str(files[0])], None, e) for e in ENDS}
    call = subprocess.run([peers_python, "-c", PEER, *map(str, files)], capture_output=True, text=True, check=True)
    peer = {name: None if v is None else Facts(*v) for name, v in json.loads(call.stdout.splitlines()[-1]).items()}
    embedded = curves_in(*files)
    titles = ["structure", "in the file", "mean stated", "dicompyler-core", *ENDS]
    lines = ["## rt-dicom", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    gaps = []
    for name, (facts, stated) in embedded.items():
        cells = [name, cell(facts), f"{stated:.4f}", cell(peer.get(name)), *(cell(mine[e].get(name)) for e in ENDS)]
        lines.append(f"| {' | '.join(cells)} |")
        compared = [mine[e][name] for e in ENDS] + [peer[name]] if peer.get(name) else [mine[e][name] for e in ENDS]
        stated_facts = Facts(facts.volume, stated, facts.d95, facts.d2cc)
        gaps.append(f"| {name} | " + " | ".join(differences(c, stated_facts)[0] for c in compared if c is not None) + " |")
    lines += ["", "Differences from the file in % (mean: from the stated one): volume / mean / D95 / D2cc.", ""]
    lines += [f"| structure | {' | '.join([*ENDS, 'dicompyler-core'])} |", "|---" * (2 + len(ENDS)) + "|", *gaps]
    body, stated = embedded["BODY"]
    whole = body.mean * body.volume / stated
    lines += ["", f"BODY: the file's curve holds {body.volume:.0f} cc, but its stated mean, {stated:.4f} Gy, is that of"]
    lines += [f"{whole:.0f} cc with the same dose (curve's mean {body.mean:.4f} Gy): volume without dose is left out of the curve."]
    return lines


def curves_in(structures: Path, dose: Path) -> dict[str, tuple[Facts, float]]:
    """Of each embedded DVH its numbers (D95 and D2cc at the upper end of a bin of 0.01 Gy) and the stated mean dose, Gy."""
    names = {int(item.ROINumber): str(item.ROIName) for item in pydicom.dcmread(structures).StructureSetROISequence}
    found = {}
    for item in pydicom.dcmread(dose).DVHSequence:
        values = np.array(item.DVHData, dtype=float)
        at, volume = np.cumsum(values[::2]) * float(item.DVHDoseScaling), values[1::2]
        mean = float(np.sum(values[::2] * volume) / volume[0])
        stated = float(item.DVHMeanDose) * PRESCRIPTION_GY / 100.0
        name = names[int(item.DVHReferencedROISequence[0].ReferencedROINumber)]
        found[name] = (of_curve(at, 100.0 * volume / volume[0], float(volume[0]), mean), stated)
    return found


if __name__ == "__main__":
    main()
