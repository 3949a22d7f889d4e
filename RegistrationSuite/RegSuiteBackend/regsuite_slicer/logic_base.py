"""The logic that all panels share: nodes -> files -> worker -> nodes, for the panel's buttons and for the Python console alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import qt
import slicer
from regsuite.errors import RegSuiteError
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from regsuite_slicer import advanced, arrays, install, nodes, results, structure_files, world
from regsuite_slicer.job import Job, JobCancelled, JobError, JobState, Progress, wait_for
from regsuite_slicer.jobs import WorkerPool, shared_pool
from regsuite_slicer.names import NodeNames

_SUFFIXES = {"points": "csv", "transform": "h5"}


@dataclass(frozen=True)
class Input:
    """One input node of a panel.

    parameter: its name in the parameter node; entry: its name in the worker's request; label: how messages call it;
    kind: what is written for the worker, which gets the path: "volume" (.nrrd), "labels" (.nrrd), "points" (.csv), "transform"
    (.h5), "volumes" (a list of volume nodes, a list of paths), "structures" (a segmentation with its overlaps, a list of
    paths), "labels_each" (a list of labels, one for each of the volumes named by `of`, a list of paths), or "value" (numbers or
    texts, handed on as they are);
    of: for labels, the name (among the inputs) of the volume on whose grid a segmentation is put; for transforms, the one they are
    sampled on; like: for labels, the parameter of other labels: segments of the same name get the same number as there.
    """

    parameter: str
    entry: str
    kind: str
    label: str
    required: bool = False
    of: str = ""
    like: str = ""

    @property
    def several(self) -> bool:
        """Whether it is a list of nodes."""
        return self.kind in ("volumes", "labels_each")


@dataclass(frozen=True)
class PanelSpec:
    """What makes a panel differ from the others.

    methods: key -> member of the parameter node that holds the method's settings (empty: the panel has no settings section);
    inputs: in the order of the panel; pairs: parameters that are given together or not at all; command: the worker's command.
    """

    methods: Mapping[str, str]
    inputs: tuple[Input, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    command: str = "register"


@dataclass(frozen=True)
class Listeners:
    """Called from the event loop; exactly one of the last three ends a run."""

    progress: Callable[[Progress], None] | None = None
    finished: Callable[[results.SceneResult], None] | None = None
    failed: Callable[[JobError], None] | None = None
    cancelled: Callable[[JobError], None] | None = None


class Run(VTKObservationMixin):
    """One job from nodes to nodes. The scene is changed once, at the very end, and only when there is a result.

    The work is cut into steps with the event loop in between. Closing the scene cancels the run. `result`, `error` and `state`
    tell how it ended; `overview` is the page of pictures as PNG bytes.
    """

    def __init__(
        self, spec: PanelSpec, inputs: Mapping[str, Any], outputs: Any, request: Mapping[str, Any],
        pool: WorkerPool, listeners: Listeners, deliver: Callable[[Any, Path], Any] = results.apply_result,
    ) -> None:  # fmt: skip
        """deliver(outputs, folder of the worker's files) puts the result into the scene and returns it."""
        VTKObservationMixin.__init__(self)
        self.state = JobState.RUNNING
        self.result: results.SceneResult | None = None
        self.error: JobError | None = None
        self.overview = b""
        self.job: Job | None = None
        self._names = NodeNames()
        self._spec, self._inputs, self._outputs, self._request = spec, dict(inputs), outputs, dict(request)
        self.listeners, self._pool, self._cancelling, self._place = listeners, pool, False, deliver
        self._steps = self._prepare()
        self.folder = Path(tempfile.mkdtemp(prefix="regsuite-", dir=slicer.app.temporaryPath))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda *_: self.cancel())
        self._later()

    @property
    def ended(self) -> bool:
        """Whether the run is over, whichever way."""
        return self.state is not JobState.RUNNING

    @property
    def log(self) -> str:
        """What the worker said besides its answers, the last lines of it."""
        return "\n".join(self.job.log) if self.job is not None else ""

    def cancel(self) -> None:
        """Stop within a second and leave everything as it was; nothing happens when the run has ended."""
        self._cancelling = True
        if self.job is not None:
            self.job.cancel()

    def wait(self, timeout_s: float | None = None) -> results.SceneResult:
        """For scripts: return the result. Raises JobError, JobCancelled, or TimeoutError after `timeout_s` (then cancelled)."""
        wait_for(lambda: self.ended, timeout_s, self.cancel)
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _later(self) -> None:
        qt.QTimer.singleShot(0, self._next)

    def _next(self) -> None:
        """One step; then back to the event loop."""
        if self.ended:
            return
        try:
            if self._cancelling:
                raise JobCancelled()
            next(self._steps)
        except StopIteration:
            return
        except JobError as error:
            self._end(error)
        except RegSuiteError as error:
            self._end(JobError(str(error), "input"))
        except Exception as error:  # a bug of ours must not leave a run that never ends
            self._end(JobError(f"Unexpected {type(error).__name__}: {error}", "internal"))
            raise
        else:
            self._later()

    def _prepare(self) -> Iterator[None]:
        """Write the inputs, one a step, and hand the job to a worker."""
        written: dict[str, Any] = {}
        given = [item for item in self._spec.inputs if self._inputs.get(item.parameter) is not None]
        for item in given:
            self._tell(Progress(0.0, _("Preparing"), item.label))
            yield
            node = self._inputs[item.parameter]
            if item.kind == "value":
                self._request[item.entry] = node
                continue
            if item.kind == "structures":
                self._request[item.entry] = self._write_structures(item, node)
                continue
            paths, done = [], []
            for number, one in enumerate(node if item.several else [node]):
                if number:
                    yield
                self._require(item, one)
                suffix = f"_{number + 1:02d}" if item.several else ""
                paths.append(self.folder / f"{item.entry}{suffix}.{_SUFFIXES.get(item.kind, 'nrrd')}")
                self._names.add(paths[-1], one)
                grid = written.get(item.of, self._inputs.get(item.of))
                done.append((yield from self._write(item, one, paths[-1], grid[number] if item.kind == "labels_each" else grid)))
            written[item.parameter] = done if item.several else done[0]
            self._request[item.entry] = [str(path) for path in paths] if item.several else str(paths[0])
        self._tell(Progress(0.0, _("Starting")))
        self.job = self._pool.submit(
            {**self._request, "out": str(self.folder / "out")},
            on_progress=self._tell,
            on_finished=self._arrived,
            on_failed=self._end,
            on_cancelled=self._end,
        )

    def _require(self, item: Input, node: Any) -> None:
        if not in_scene(node):
            raise JobError(_("The {label} was removed before it could be read.").format(label=item.label), "input")

    def _write_structures(self, item: Input, node: Any) -> list[str]:
        self._require(item, node)
        paths = structure_files.export_structures(node, self.folder, item.entry, getattr(self._outputs, "transform", None))
        for path in paths:
            self._names.add(path, node)
        return paths

    def _write(self, item: Input, node: Any, path: Path, grid: Any) -> Generator[None, None, Any]:
        ignore = getattr(self._outputs, "transform", None)  # an earlier preview is no part of where the moving volume lies
        if item.kind in ("volume", "volumes"):
            volume, image = arrays.volume_data(node, ignore), node.GetImageData()
            before = image.GetMTime()
            for _slab in arrays.nrrd_slabs(volume, path):
                yield
                if image.GetMTime() != before:
                    raise JobError(_("The {label} was changed while it was read; start again.").format(label=item.label), "input")
            return volume
        if item.kind in ("labels", "labels_each"):
            numbers = nodes.numbers_like(node, self._inputs.get(item.like))
            return nodes.export_labels(node, grid, path, ignore=ignore, numbers=numbers)
        if item.kind == "transform":
            return nodes.export_transform(node, path, self._inputs.get(item.of))
        return nodes.export_points(node, path, ignore=ignore)

    def _arrived(self, answer: Mapping[str, Any]) -> None:
        """The worker has written a result: from here on cancelling comes too late, except by closing the scene."""
        self._steps = self._deliver()
        self._tell(Progress(1.0, _("Loading the result")))
        self._later()

    def _deliver(self) -> Iterator[None]:
        yield
        out = self.folder / "out"
        overview = out / "overview.png"
        self.overview = overview.read_bytes() if overview.is_file() else b""
        for report in out.rglob("report.json"):  # a job of several parts has one in each
            self._names.in_report(report)
        result = self._place(self._outputs, out)
        self._cancelling = False  # the scene has changed: the listener hears of it whatever is pressed now
        for path in [path for path in self.folder.rglob("*") if path.is_file()]:
            yield  # removing a large file takes tens of milliseconds
            path.unlink(missing_ok=True)
        yield
        self._end(result)

    def _tell(self, progress: Progress) -> None:
        if self.listeners.progress is not None and not self._cancelling:
            self.listeners.progress(replace(progress, detail=self._names.in_text(progress.detail)))

    def _end(self, outcome: results.SceneResult | JobError) -> None:
        if self.ended:
            return
        self.removeObservers()
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(outcome, JobCancelled):
            self.error, self.state, listener = outcome, JobState.CANCELLED, self.listeners.cancelled
        elif isinstance(outcome, JobError):
            outcome = JobError(self._names.in_text(str(outcome)), outcome.kind)
            self.error, self.state, listener = outcome, JobState.FAILED, self.listeners.failed
        else:
            self.result, self.state, listener = outcome, JobState.FINISHED, self.listeners.finished
        if listener is not None:
            listener(outcome)  # type: ignore[arg-type]


class RegistrationLogic(ScriptedLoadableModuleLogic):
    """Base of the panels' logics: a derived class names its SPEC and PARAMETERS (the parameter node's class)."""

    SPEC: PanelSpec
    PARAMETERS: Any

    def __init__(self, pool: WorkerPool | None = None) -> None:
        """pool: whose workers do the jobs (default: the pool that all panels share)."""
        ScriptedLoadableModuleLogic.__init__(self)
        self.pool = pool or shared_pool()

    def getParameterNode(self) -> Any:
        """The typed parameter node of the module; it is saved with the scene."""
        return self.PARAMETERS(super().getParameterNode())

    def missing(self, inputs: Mapping[str, Any], outputs: Any) -> str:
        """What is missing or wrong before a run can start, as one sentence for the user; "" when nothing is."""
        for item in self.SPEC.inputs:
            node = inputs.get(item.parameter)
            if (node is None or node == []) and item.required:
                return _("Select the {label}.").format(label=item.label)
            volumes = {"volume": [node], "volumes": node}.get(item.kind) if node is not None else None
            for volume in volumes or []:
                if volume.GetImageData() is None:
                    text = _("The {label} '{name}' is empty; select one with voxels.")
                    return text.format(label=item.label, name=volume.GetName())
        labels = {item.parameter: item.label for item in self.SPEC.inputs}
        for pair in self.SPEC.pairs:
            given = [inputs.get(name) is not None for name in pair]
            if given[0] != given[1]:
                has, lacks = (labels[name] for name in (pair if given[0] else pair[::-1]))
                return _("Select the {lacks} as well, or no {has}.").format(lacks=lacks, has=has)
        if self.SPEC.command != "register":
            return ""
        if outputs.fixed is outputs.moving:
            return _("Fixed and moving volume are the same; select two different ones.")
        try:
            world.check_outputs(outputs.fixed, outputs.moving, outputs.transform, outputs.volume, outputs.linear)
        except RegSuiteError as error:
            return str(error)
        return ""

    def begin(
        self, inputs: Mapping[str, Any], outputs: Any, *, method: str = "", preset: str = "Default",
        settings: Mapping[str, Any] | None = None, device: str = "auto", seed: int = 0, listeners: Listeners | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> Run:  # fmt: skip
        """Start a run: inputs are nodes (or values) by parameter name, settings change single values of the method's preset.

        outputs is handed to `deliver` (results.RequestNodes for a registration); further: other entries of the worker's request.
        Without a method nothing but these and the inputs is sent.
        Raises JobError when something is missing or torch is not there and was not installed.
        """
        reason = self.missing(inputs, outputs)
        if reason:
            raise JobError(reason, "input")
        values = advanced.preset_values(method, preset) if method else {}
        unknown = [name for name in settings or {} if name not in values]
        if unknown:
            raise JobError(f"Unknown setting '{unknown[0]}'; expected one of {', '.join(values)}.", "input")
        outcome = install.ensure_torch()
        if not outcome.ready:
            raise JobError(outcome.message, "torch")
        request: dict[str, Any] = {"command": self.SPEC.command, **(further or {})}
        if method:
            request |= {"method": method, "preset": preset, "settings": dict(settings or {}), "device": device, "seed": seed}
        return Run(self.SPEC, inputs, outputs, request, self.pool, listeners or Listeners(), self.deliver)

    def deliver(self, outputs: Any, folder: Path) -> Any:
        """Put the files that the worker left in `folder` into the scene; a panel with more or other results overrides this.

        Read everything first and touch the scene then: a damaged folder must leave it as it was. Raises InputError. What it
        returns is `run.result` and reaches PanelWidget.keepOutputs and .present.
        """
        return results.apply_result(outputs, folder)

    def inputsOf(self, parameters: Any) -> dict[str, Any]:
        """Parameter name -> node (or None) of the panel's inputs."""
        return {item.parameter: getattr(parameters, item.parameter) for item in self.SPEC.inputs}

    def outputsOf(self, parameters: Any) -> results.RequestNodes:
        """The nodes that a run from the panel reads from and writes to."""
        return results.RequestNodes(
            fixed=parameters.fixedVolume,
            moving=parameters.movingVolume,
            transform=parameters.outputTransform,
            volume=parameters.outputVolume,
            table=parameters.verdictTable,
        )

    def furtherOf(self, parameters: Any) -> dict[str, Any]:
        """What the panel adds to the worker's request besides inputs and settings."""
        return {"maps": True} if getattr(parameters, "maps", False) else {}

    def beginFromParameters(self, parameters: Any, listeners: Listeners) -> Run:
        """Start a run with what the panel shows."""
        if not self.SPEC.methods:
            further = self.furtherOf(parameters)
            return self.begin(self.inputsOf(parameters), self.outputsOf(parameters), listeners=listeners, further=further)
        pack = getattr(parameters, self.SPEC.methods[parameters.method])
        settings = advanced.changed_settings(parameters.method, parameters.preset, pack)
        return self.begin(
            self.inputsOf(parameters), self.outputsOf(parameters), method=parameters.method, preset=parameters.preset,
            settings=settings, listeners=listeners, further=self.furtherOf(parameters),
        )  # fmt: skip


def in_scene(node: Any) -> bool:
    """Whether the node still is in the scene."""
    return node is not None and node.GetScene() is not None and slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node
