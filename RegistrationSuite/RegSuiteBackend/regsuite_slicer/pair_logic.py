"""What the panels that deform one volume onto another share: their inputs and their console function."""

from __future__ import annotations

from typing import Any

from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.results import RequestNodes, SceneResult


def pair_spec(methods: dict[str, str], region: str) -> PanelSpec:
    """Two volumes, masks of a region ("lungs", "brain"), landmarks. methods: keys -> names of their settings, the default first."""
    return PanelSpec(
        methods=methods,
        inputs=(
            Input("fixedVolume", "fixed", "volume", "fixed volume", required=True),
            Input("movingVolume", "moving", "volume", "moving volume", required=True),
            Input("fixedMask", "fixed_mask", "labels", f"fixed {region}", of="fixedVolume"),
            Input("movingMask", "moving_mask", "labels", f"moving {region}", of="movingVolume"),
            Input("fixedLandmarks", "fixed_landmarks", "points", "fixed landmarks"),
            Input("movingLandmarks", "moving_landmarks", "points", "moving landmarks"),
        ),
        pairs=(("fixedLandmarks", "movingLandmarks"),),
    )


class PairLogic(RegistrationLogic):
    """Base of the logic of such a panel; a module gives PARAMETERS and SPEC = pair_spec(...)."""

    def register(
        self,
        fixedNode: Any,
        movingNode: Any,
        preset: str = "Default",
        *,
        fixedMask: Any = None,
        movingMask: Any = None,
        fixedLandmarks: Any = None,
        movingLandmarks: Any = None,
        transform: Any = None,
        volume: Any = None,
        maps: bool = False,
        settings: dict[str, Any] | None = None,
        method: str | None = None,
        device: str = "auto",
        seed: int = 0,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> SceneResult | Run:
        """Register `movingNode` to `fixedNode`; no panel is needed. The inputs are not changed.

        method: one of those of the panel (None: its default).
        masks: segmentations or label maps; landmarks: markups that measure the result. transform, volume: nodes for the result
        (None: a new transform; no volume; volume=True: a new one). maps: also volumes of the Jacobian determinant and of the
        displacement's length in mm. settings: values of the method's config that differ from the
        preset. blocking=True waits and returns a SceneResult (transform, volume, table, report, warnings); blocking=False
        returns at once with a Run, whose `listeners` hear how it goes (progress, finished, failed, cancelled).

        Raises JobError with one sentence when something is missing or goes wrong.
        """
        inputs = {
            "fixedVolume": fixedNode,
            "movingVolume": movingNode,
            "fixedMask": fixedMask,
            "movingMask": movingMask,
            "fixedLandmarks": fixedLandmarks,
            "movingLandmarks": movingLandmarks,
        }
        new = volume is True
        outputs = RequestNodes(fixedNode, movingNode, transform, None if new else volume, want_volume=new)
        chosen = next(iter(self.SPEC.methods)) if method is None else method
        run = self.begin(
            inputs, outputs, method=chosen, preset=preset, settings=settings, device=device, seed=seed, listeners=listeners,
            further={"maps": True} if maps else None,
        )  # fmt: skip
        return run.wait() if blocking else run
