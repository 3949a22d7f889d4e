"""Volumes over time as a sequence: made, stepped through by a slider, and played by Slicer's own timer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from regsuite_slicer.arrays import VolumeData, array_to_matrix

Widgets = tuple[Any, Any, Any]
"""Button (checkable), slider and label."""


def fill_sequence(sequence: Any, index: tuple[str, str], at: Sequence[float], volumes: Sequence[VolumeData], name: str) -> None:
    """Let a sequence node hold `volumes` at the values `at` of an index (name, unit)."""
    sequence.SetIndexName(index[0])
    sequence.SetIndexUnit(index[1])
    sequence.SetIndexTypeFromString("numeric")
    for value, volume in zip(at, volumes, strict=True):
        sequence.SetDataNodeAtValue(loose_volume(name, volume), f"{value:.3f}")


def loose_volume(name: str, volume: VolumeData) -> Any:
    """A volume node outside the scene, as sequences keep them."""
    import slicer

    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.values))
    node.SetIJKToRASMatrix(array_to_matrix(volume.affine))
    return node


def connect(browser: Any, sequences: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Let `browser` step through `sequences` together; returns the volumes that it shows them in, in the scene, called `names`."""
    import slicer

    for sequence in sequences:
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.SetOverwriteProxyName(sequence, False)  # else the node's name changes with every picture
    browser.SetPlaybackRateFps(6.0)
    browser.SelectFirstItem()
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    shown = [browser.GetProxyNode(sequence) for sequence in sequences]
    for proxy, name in zip(shown, names, strict=True):
        proxy.SetName(name)
        if proxy.GetDisplayNode() is None:
            proxy.CreateDefaultDisplayNodes()
    return shown


def grey_window(node: Any, values: np.ndarray | None = None) -> None:
    """From 0 to the bright end of `values` (None: of the node), the same for every picture."""
    import slicer

    values = slicer.util.arrayFromVolume(node) if values is None else values
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, float(np.percentile(values, 99.5)) or 1.0)


def select(browser: Any, item: int) -> list[Any]:
    """Show the item-th pictures of `browser` in its volumes, which are returned in the order of the sequences."""
    import slicer
    import vtk

    browser.SetSelectedItemNumber(item)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    sequences = vtk.vtkCollection()
    browser.GetSynchronizedSequenceNodes(sequences, True)
    return [browser.GetProxyNode(sequences.GetItemAsObject(n)) for n in range(sequences.GetNumberOfItems())]


def index_of(browser: Any) -> float:
    """The value (age, time) that the browser shows."""
    return float(browser.GetMasterSequenceNode().GetNthIndexValue(browser.GetSelectedItemNumber()))


class PlayControls:
    """A button that plays, a slider and a label, for a sequence browser: browser_of() finds it (None: there is none yet).

    show(browser, item) brings an item into the views; text(browser) says which one it is.
    """

    def __init__(
        self, widgets: Widgets, browser_of: Callable[[], Any], show: Callable[[Any, int], None], text: Callable[[Any], str]
    ) -> None:
        self._button, self._slider, self._label = widgets
        self._browser_of, self._show, self._text = browser_of, show, text
        self._filling, self._observed, self._tag = False, None, 0
        self._button.connect("toggled(bool)", self._play)
        self._slider.connect("valueChanged(double)", self._moved)

    def update(self) -> None:
        """Fit the slider to the sequence; nothing can be pressed without one."""
        browser = self._browser_of()
        self._button.enabled = self._slider.enabled = browser is not None
        if browser is not self._observed:
            self._observe(browser)
        self._follow()

    def _observe(self, browser: Any) -> None:
        """The slider moves along while a sequence is played."""
        import vtk

        if self._observed is not None:
            self._observed.RemoveObserver(self._tag)
        self._observed = browser
        if browser is not None:
            self._tag = browser.AddObserver(vtk.vtkCommand.ModifiedEvent, self._follow)

    def _follow(self, caller: Any = None, event: Any = None) -> None:
        browser, self._filling = self._observed, True
        if browser is None or browser.GetNumberOfItems() == 0:
            self._slider.value, self._label.text = 0, ""
        else:
            self._slider.maximum = browser.GetNumberOfItems() - 1
            self._slider.value = browser.GetSelectedItemNumber()
            self._label.text = self._text(browser)
        self._filling = False

    def stop(self) -> None:
        """Stop playing."""
        self._button.checked = False

    def _play(self, on: bool) -> None:
        """Again and again from the first to the last item; Slicer's own timer turns the pages."""
        browser = self._browser_of()
        if browser is not None:
            if on:
                self._show(browser, browser.GetSelectedItemNumber())
            browser.SetPlaybackActive(bool(on))

    def _moved(self, value: float) -> None:
        browser = self._browser_of()
        if browser is not None and not self._filling:
            self._show(browser, round(value))
            self._label.text = self._text(browser)
