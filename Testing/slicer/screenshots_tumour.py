"""The picture of the panel BrainTumourMetamorphosis for the documentation: python Testing/slicer/screenshots_tumour.py [FOLDER]

The sample data are made and registered by clicking through the panel, and the way from the template to the patient is stepped
through; about a minute.
"""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from screenshots import ROOT, titled  # sets up the headless application

from harness import panel, views  # isort: skip

import lung_case
import numpy as np
import SampleData
import slicer
import vtk
from regsuite_slicer.arrays import matrix_to_array

PIXELS = (430, 430)


def shot(view: views.SliceView, title: str) -> np.ndarray:
    """The red view."""
    return titled(view.render(), title)


def centre(lesion: Any) -> np.ndarray:
    """Of the lesion, x y z in RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    lesion.GetIJKToRASMatrix(matrix)
    k, j, i = np.argwhere(slicer.util.arrayFromVolume(lesion) > 0).mean(axis=0)
    return (matrix_to_array(matrix) @ (i, j, k, 1.0))[:3]


def main(out: Path) -> None:
    """Write tumour-panel.png to the folder."""
    opened = lung_case.open_panel(lung_case.SUITE / "BrainTumourMetamorphosis" / "BrainTumourMetamorphosis.py")
    ui, view = opened.ui, views.SliceView("Red", PIXELS)
    patient, template, lesion = SampleData.press("BrainTumourPhantom")
    ui.fixedVolumeSelector.setCurrentNode(patient)
    ui.movingVolumeSelector.setCurrentNode(template)
    ui.lesionMaskSelector.setCurrentNode(lesion)
    slicer.util.setSliceViewerLayers(background=patient, fit=True)
    view.fit()
    view.logic.SetSliceOffset(float(centre(lesion)[2]))
    ui.presetComboBox.setCurrentText("Preview")
    opened.widget._controls["tumour-wm"].widgets["tumourWm.finest_mm"].value = 3.0
    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 1800)
    print(ui.statusLabel.text)
    slicer.util.setSliceViewerLayers(background=patient, foreground=None)
    pictures = [shot(view, "Patient")]
    last = int(ui.geodesicSlider.maximum)
    for item in (0, last // 2, last):
        ui.geodesicSlider.value = item
        pictures.append(shot(view, ui.timeLabel.text))
    ui.residualCheckBox.checked = True
    pictures.append(shot(view, "Added"))
    panel.photograph_with_views(opened, pictures[1:], out / "tumour-panel.png")
    opened.close()
    lung_case.close_shared_pool()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots")
