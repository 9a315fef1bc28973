"""Pictures take names as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sonicscan_train.pictures import draw_baselines, draw_confusion, draw_scores


def test_a_name_with_dollar_signs_is_no_formula(tmp_path: Path) -> None:
    """matplotlib takes text between two dollar signs for a formula, and refuses this one."""
    name = "Joey Bada$$"
    draw_scores({name: [0.1, 0.2]}, tmp_path / "scores.png")
    draw_confusion(["human", name], ["human", name], np.eye(2, dtype=np.int64), tmp_path / "confusion.png")
    draw_baselines({name: (0.6, 0.5, 0.7, False)}, 0.65, tmp_path / "baselines.png")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3
