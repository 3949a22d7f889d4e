"""lung-mlvirnet leaves coarse levels to its network where that helped, and only there."""

from __future__ import annotations

import pytest
from regsuite.methods import registry
from regsuite.phantoms.base import Phantom
from regsuite.solvers import foretell


@pytest.mark.parametrize(("helps", "levels"), [(True, {"8", "16"}), (False, {"8", "16", "32", "64"})])
def test_coarse_levels_follow_only_where_the_network_was_left_out(
    chest: Phantom, monkeypatch: pytest.MonkeyPatch, helps: bool, levels: set[str]
) -> None:
    monkeypatch.setattr(foretell, "helpful", lambda pair, u: helps)
    settings = {"finest_mm": 8.0, "coarse_iterations": 1, "fine_iterations": 1}
    config = registry.config_for("lung-mlvirnet", "Default", settings)
    result = registry.get("lung-mlvirnet").load().register(chest.fixed, chest.moving, config, device="cpu")
    assert {str(row["level"]).split()[0] for row in result.history if row["level"]} == levels
    assert (foretell.NO_HELP in result.warnings) != helps
