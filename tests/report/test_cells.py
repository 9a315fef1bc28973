"""Cells of CSV files: no formula begins in them, and what was escaped is read back."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.report.cells import escaped, unescaped

LAW = settings(derandomize=True, deadline=None, max_examples=2000)
TEXT = st.text(st.sampled_from("ab=+-@\uff1d,;|'\" \t\r\n")) | st.text()


@LAW
@given(TEXT)
def test_what_was_escaped_is_read_back(text: str) -> None:
    assert unescaped(escaped(text)) == text


@LAW
@given(TEXT)
def test_no_cell_begins_a_formula(text: str) -> None:
    for part in re.split("[,;|\t\r\n]", escaped(text)):
        assert not re.match(r"[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]", part)
    assert escaped(text)[:1] not in ("\t", "\r")


def test_text_of_people_without_signs_stays() -> None:
    for text in ("a/b.mp3", "'quoted' song.mp3", "it's.mp3", "a, b; c.mp3", "=typed by hand"):
        assert unescaped(text) == text
