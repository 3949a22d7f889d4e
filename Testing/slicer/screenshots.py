"""Takes the pictures of the documentation, a minute of work: python Testing/slicer/screenshots.py [FOLDER]

The sample data are made and registered by clicking through the lung panel, and the views photographed on the way.
"""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
os.environ["QT_QPA_PLATFORM"] = "offscreen"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "RegistrationSuite" / "RegSuiteBackend")]

from harness import app, panel, views  # noqa: E402

app.start()

import lung_case  # noqa: E402
import numpy as np  # noqa: E402
import SampleData  # noqa: E402
import slicer  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

OFFSETS_MM = {"Red": -10.0, "Green": -8.0, "Yellow": 62.0}
PIXELS = (460, 460)


def shoot(*names: str) -> list[np.ndarray]:
    """Pictures of slice views at the places where the anatomy is worth seeing."""
    pictures = []
    for name in names:
        view = views.SliceView(name, PIXELS)
        view.fit()
        view.logic.SetSliceOffset(OFFSETS_MM[name])
        pictures.append(view.render())
    return pictures


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a word in its upper left corner."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((12, 10), text, fill=(255, 214, 90), font=ImageFont.load_default(size=18))
    return np.asarray(image)


def prepare(opened: panel.Panel, out: Path) -> tuple[Any, Any]:
    """Sample data and inputs; returns the fixed and the moving volume."""
    fixed, moving, fixed_points, moving_points = SampleData.press("ThoraxPhantom")
    for node in (fixed, moving):
        node.GetDisplayNode().SetWindowLevelMinMax(-1050, 250)
    case = {"fixed": fixed, "moving": moving, "fixed_landmarks": fixed_points, "moving_landmarks": moving_points}
    lung_case.choose(opened, case, settings={})
    opened.ui.optionalCollapsibleButton.collapsed = False
    panel.photograph(opened, out / "panel-ready.png")
    opened.ui.optionalCollapsibleButton.collapsed = True
    slicer.util.setSliceViewerLayers(background=fixed, foreground=moving, foregroundOpacity=0.5, fit=True)
    return fixed, moving


def main(out: Path) -> None:
    """Write every picture to the folder."""
    out.mkdir(parents=True, exist_ok=True)
    opened = lung_case.open_panel()
    ui = opened.ui
    prepare(opened, out)
    before = shoot("Green", "Yellow")
    panel.click(ui.applyButton)
    panel.wait_until(lambda: ui.progressBar.value > 400, 1800)
    panel.photograph(opened, out / "panel-running.png")
    panel.wait_until(lambda: opened.widget.run is None, 1800)
    print(ui.statusLabel.text)
    panel.photograph(opened, out / "panel.png")
    after, all_three = shoot("Green", "Yellow"), shoot("Red", "Green", "Yellow")
    rows = [np.concatenate([titled(a, "before"), titled(b, "after")], axis=1) for a, b in zip(before, after, strict=True)]
    views.save_png(np.concatenate(rows), out / "before-after.png")

    shown = []
    for button, word in ((ui.checkerboardButton, "Checkerboard"), (ui.gridButton, "Grid"), (ui.glyphButton, "Arrows")):
        panel.click(button)
        shown.append(titled(shoot("Green")[0], word))
        if button is ui.checkerboardButton:
            panel.click(ui.overlayButton)
    views.save_png(np.concatenate(shown, axis=1), out / "views.png")
    panel.click(ui.glyphButton)
    panel.photograph_with_views(opened, [*all_three, shown[1]], out / "overview.png")
    opened.close()
    lung_case.close_shared_pool()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Resources" / "Screenshots")
