"""The window plan: laws that hold for every length, count and window."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.audio.windows import ALL_WINDOWS, MAX_WINDOWS, WindowPlan
from sonicscan.errors import InputError

LAW = settings(derandomize=True, deadline=None, max_examples=300)
LENGTHS = st.integers(1, 3 * 10**9)
WINDOWS = st.integers(16, 200_000)
COUNTS = st.integers(1, 200)


@LAW
@given(LENGTHS, WINDOWS, COUNTS)
def test_windows_lie_inside_the_track_in_order_and_reach_both_ends(n: int, window: int, count: int) -> None:
    starts = WindowPlan(count).starts(n, window)
    assert 1 <= len(starts) <= count
    assert starts == sorted(set(starts))
    if n <= window:
        assert starts == [0]
        return
    assert all(0 <= start <= n - window for start in starts)
    if len(starts) > 1:
        assert (starts[0], starts[-1]) == (0, n - window)
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@LAW
@given(LENGTHS, WINDOWS, COUNTS)
def test_a_track_shorter_than_the_windows_together_is_covered(n: int, window: int, count: int) -> None:
    starts = WindowPlan(count).starts(n, window)
    if n > count * window or len(starts) == 1:
        return
    assert all(b - a <= window for a, b in itertools.pairwise(starts))
    assert (len(starts) - 1) * window < n  # and no window more than that takes


@LAW
@given(st.integers(1, 10**8), st.integers(1000, 200_000))
def test_all_windows_follow_one_another_to_the_last_whole_one(n: int, window: int) -> None:
    starts = ALL_WINDOWS.starts(n, window)
    assert starts == [k * window for k in range(max(1, n // window))]


def test_one_window_is_taken_from_the_middle() -> None:
    assert WindowPlan(1).starts(1000, 100) == [450]


@pytest.mark.parametrize("text", ["1", "12", str(MAX_WINDOWS), "all"])
def test_plans_are_read_and_written(text: str) -> None:
    assert str(WindowPlan.parse(text)) == text


@pytest.mark.parametrize("text", ["0", "-1", str(MAX_WINDOWS + 1), "", "ALL", "1.5", "twelve"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        WindowPlan.parse(text)
