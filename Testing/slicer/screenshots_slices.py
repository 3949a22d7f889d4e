"""Takes the picture of the panel SliceToVolume for the documentation: python Testing/slicer/screenshots_slices.py [FOLDER]

The sample data are made and placed by clicking through the panel; some minutes.
"""
from __future__ import annotations

import sys
from pathlib import Path

from screenshots import ROOT, titled  # sets up the headless application

from harness import panel, views  # isort: skip

import lung_case
import numpy as np
import SampleData
import slicer

PIXELS = (430, 430)


def shot(view: views.SliceView, title: str) -> np.ndarray:
    """The red view."""
    view.fit()
    return titled(view.render(), title)


def main(out: Path) -> None:
    """Write slices.png to the folder."""
    opened = lung_case.open_panel(lung_case.SUITE / "SliceToVolume" / "SliceToVolume.py")
    ui, view = opened.ui, views.SliceView("Red", PIXELS)
    volume, *_ = SampleData.press("HipRadialPhantom")
    ui.volumeSelector.setCurrentNode(volume)
    panel.click(ui.addAllButton)
    ui.volumeMaskSelector.setCurrentNode(slicer.util.getNode("Hip_bones"))
    ui.labelsSelector.setCurrentNode(slicer.util.getNode("Hip_regions"))
    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 1800)
    print(ui.statusLabel.text)
    pictures = [shot(view, "Map")]
    ui.slicesTable.setCurrentCell(2, 0)
    for button in (ui.showRealButton, ui.showEmulatedButton, ui.showDifferenceButton):
        panel.click(button)
        pictures.append(shot(view, button.text))
    panel.photograph_with_views(opened, pictures, out / "slices.png")
    opened.close()
    lung_case.close_shared_pool()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots")
