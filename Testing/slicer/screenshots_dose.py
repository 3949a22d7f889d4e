"""Takes the picture of the uncertainty panel with a dose for the documentation: python Testing/slicer/screenshots_dose.py FOLDER"""
from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
os.environ["QT_QPA_PLATFORM"] = "offscreen"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "RegistrationSuite" / "RegSuiteBackend")]

from harness import app, panel, views  # noqa: E402

app.start()

import dose_case  # noqa: E402
import lung_case  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import dvh_nodes  # noqa: E402

SIZE, SAMPLES = (88, 68, 62), 30


def main(out: Path) -> None:
    """Make the phantom, click through the panel, photograph it with its views."""
    with tempfile.TemporaryDirectory() as folder:
        opened = lung_case.open_panel(dose_case.MODULE)
        view = views.SliceView("Red", (460, 400))
        nodes = dose_case.load(dose_case.make_files(Path(folder) / "data", SIZE))
        nodes["structures"].GetDisplayNode().SetVisibility2DFill(False)
        ui = opened.ui
        selectors = {"fixedVolume": "fixed", "movingVolume": "moving", "transform": "transform", "doseVolume": "dose"}
        for selector, key in (selectors | {"structures": "structures"}).items():
            getattr(ui, f"{selector}Selector").setCurrentNode(nodes[key])
        ui.samplesSpinBox.value = SAMPLES
        lung_case.apply_and_wait(opened, 1200)
        parameters = opened.widget.parameters
        target = nodes["structures"].GetSegmentation().GetSegmentIDs()[-1]
        height = nodes["structures"].GetSegmentCenterRAS(target)[2]
        dvh_nodes.show_band(parameters.doseTable, parameters.doseChart, "Right lung")
        pictures = [picture(view, height)]
        panel.click(ui.showDoseButton)
        pictures += [picture(view, height), views.chart_image(parameters.doseChart, (460, 400))]
        panel.click(ui.allStructuresButton)
        pictures.append(views.chart_image(parameters.doseChart, (460, 400)))
        pictures.append(views.table_image(parameters.doseTable, (920, 190)))
        panel.photograph_with_views(opened, pictures, out / "uncertainty-dose.png")
        opened.close()
    lung_case.close_shared_pool()
    slicer.mrmlScene.Clear()


def picture(view: views.SliceView, height_mm: float):
    """The red view there, with what the panel shows in it."""
    view.fit()
    view.logic.SetSliceOffset(height_mm)
    return view.render()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
