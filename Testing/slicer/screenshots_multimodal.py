"""The picture of the panel MultimodalAlignment for the documentation: python Testing/slicer/screenshots_multimodal.py [FOLDER]

The sample data are made and aligned by clicking through the panel, and the candidates clicked; about a minute.
"""
from __future__ import annotations

import sys
from pathlib import Path

from screenshots import ROOT, titled  # sets up the headless application

from harness import panel, views  # isort: skip

import lung_case
import SampleData
import slicer

PIXELS = (430, 430)


def shot(view: views.SliceView, title: str) -> object:
    """The view, with its volumes where the transform puts them now."""
    return titled(view.render(), title)


def main(out: Path) -> None:
    """Write multimodal.png to the folder."""
    opened = lung_case.open_panel(lung_case.SUITE / "MultimodalAlignment" / "MultimodalAlignment.py")
    ui, view = opened.ui, views.SliceView("Red", PIXELS)
    fixed, moving = SampleData.press("MultimodalPhantom")
    ui.fixedVolumeSelector.setCurrentNode(fixed)
    ui.movingVolumeSelector.setCurrentNode(moving)
    display = moving.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeWarm1")  # red to yellow: which is which
    display.AutoThresholdOff()
    display.SetThreshold(1.0, 1e6)  # the air around the head hides nothing
    display.ApplyThresholdOn()
    slicer.util.setSliceViewerLayers(background=fixed, foreground=moving, foregroundOpacity=0.4, fit=True)
    view.fit()
    pictures = [shot(view, "Before")]
    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 1800)
    print(ui.statusLabel.text, ui.confidenceLabel.text)
    for row in (1, 2, 0):
        ui.candidatesTable.setCurrentCell(row, 0)
        opened.widget.onCandidate(row)
        pictures.append(shot(view, ui.candidatesTable.item(row, 0).text()))
    panel.photograph_with_views(opened, pictures, out / "multimodal.png")
    opened.close()
    lung_case.close_shared_pool()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots")
