"""The phantom of a brain tumour: its truth is true, it has a mass effect, and a seed fixes every byte."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.metrics import dice_resampled
from regsuite.ops.sampling import resample
from regsuite.phantoms import Phantom, make_phantom

SMALL = (44, 52, 40)


@pytest.fixture(scope="module")
def clean() -> Phantom:
    return make_phantom("brain-tumour", seed=3, size=(76, 92, 70), noise=0.0, oblique=True)


def healthy(phantom: Phantom) -> torch.Tensor:
    assert phantom.lesion_mask is not None
    return (phantom.fixed_mask.data[0] > 0) & (phantom.lesion_mask.data[0] == 0)


def test_the_template_pulled_through_the_truth_is_the_patient_outside_the_lesion(clean: Phantom) -> None:
    moved = resample(clean.moving, clean.fixed.grid, clean.transform, "cubic").data[0]
    outside = healthy(clean)
    error = (moved - clean.fixed.data[0])[outside].abs().mean()
    plain = (resample(clean.moving, clean.fixed.grid).data[0] - clean.fixed.data[0])[outside].abs().mean()
    assert float(error) < 25.0
    assert float(plain) > 3.0 * float(error)
    overlap = dice_resampled(clean.fixed_labels, clean.moving_labels, clean.transform)
    assert set(overlap) == {1, 2, 3, 4}
    assert min(overlap.values()) > 0.8


def test_the_lesion_pushes_tissue_away_and_nothing_folds(clean: Phantom) -> None:
    truth = clean.transform
    centre = torch.from_numpy(truth.centre)
    outward = torch.from_numpy(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
    for radius, least in ((19.0, 8.0), (25.0, 3.0), (40.0, 0.2)):
        points = centre + radius * outward
        pushed = radius - (truth.before_growth(points) - centre).norm(dim=1)
        assert float(pushed.min()) > least
    far = centre + (truth.reach_mm + 1.0) * outward
    assert torch.allclose(truth.before_growth(far), far)
    step = 0.05 * torch.eye(3, dtype=torch.float64)
    points = clean.fixed.grid.index_to_world((clean.fixed_mask.data[0] > 0).nonzero().flip(1).double())[::7]
    columns = [(truth.map_points(points + s) - truth.map_points(points - s)) / 0.1 for s in step]
    assert float(torch.linalg.det(torch.stack(columns, dim=2)).min()) > 0.0


def test_landmarks_and_inverse(clean: Phantom) -> None:
    assert len(clean.fixed_landmarks) == 200
    back = clean.transform.inverse().map_points(clean.moving_landmarks)
    assert torch.allclose(back, clean.fixed_landmarks, atol=1e-4)
    assert float((clean.fixed_landmarks - clean.moving_landmarks).norm(dim=1).mean()) > 3.0


def test_ventricles_are_labelled_on_both_sides(clean: Phantom) -> None:
    for labels in (clean.fixed_labels, clean.moving_labels):
        where = labels.grid.index_to_world((labels.data[0] == 3).nonzero().flip(1).double())[:, 0]
        assert int((where < -4).sum()) > 100
        assert int((where > 4).sum()) > 100
    assert clean.label_names[3] == "ventricles"


def test_a_slice_through_the_tumour() -> None:
    flat = make_phantom("brain-tumour", seed=1, size=(84, 102, 1))
    assert flat.fixed.grid.shape == (1, 102, 84)
    assert flat.lesion_mask is not None
    assert int(flat.lesion_mask.data.sum()) > 200
    moved = flat.transform.map_points(flat.fixed_landmarks) - flat.fixed_landmarks
    assert float(moved[:, 2].abs().max()) < 1e-9


def test_the_seed_fixes_every_byte() -> None:
    a, b, c = (make_phantom("brain-tumour", seed=seed, size=SMALL) for seed in (5, 5, 6))
    assert torch.equal(a.fixed.data, b.fixed.data)
    assert torch.equal(a.moving.data, b.moving.data)
    assert not torch.equal(a.fixed.data, c.fixed.data)
    assert {field.name for field in dataclasses.fields(a)} >= {"lesion_mask"}


@pytest.mark.parametrize(
    "options",
    [
        {"size": (20, 40, 40)},
        {"size": (40, 40)},
        {"tumour_mm": 50.0},
        {"noise": -1.0},
        {"pose": 1},
        {"size": (40, 40, 1), "oblique": True},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        make_phantom("brain-tumour", **options)
