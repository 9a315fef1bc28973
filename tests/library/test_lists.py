"""File lists in every encoding and form that other programs write."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sonicscan.cli import scan
from sonicscan.errors import InputError
from sonicscan.library.lists import file_list

LAW = settings(derandomize=True, deadline=None, max_examples=150)
NAME = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\ufeff"), min_size=1, max_size=8)


def test_plain_lists() -> None:
    assert file_list(b"a.mp3\n./b//c.wav\n\nd\xff.ogg", "l.txt") == [b"a.mp3", b"b/c.wav", b"d\xff.ogg"]
    assert file_list(b"new\nline.mp3\0b.mp3\0", "-", nul=True) == [b"new\nline.mp3", b"b.mp3"]
    assert file_list(b"", "l.txt") == []


@LAW
@given(
    st.lists(NAME.map(lambda name: name + ".mp3"), min_size=1, max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
)
def test_any_encoding_and_line_end(names: list[str], encoding: str, end: str, closed: bool) -> None:
    content = (end.join(names) + (end if closed else "")).encode(encoding)
    assert file_list(content, "l.txt") == [name.encode() for name in names]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_both_byte_orders(encoding: str) -> None:
    mark = codecs.BOM_UTF16_LE if encoding.endswith("le") else codecs.BOM_UTF16_BE
    assert file_list(mark + "ä.mp3\r\nb.mp3".encode(encoding), "l.txt") == ["ä.mp3".encode(), b"b.mp3"]


def test_mixed_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_list(b"a.mp3\r\nb.mp3\nc.mp3\r\nd.mp3", "l") == [b"a.mp3", b"b.mp3", b"c.mp3", b"d.mp3"]
    (tmp_path / "ends in a return.mp3\r").touch()
    assert file_list(b"ends in a return.mp3\r\nb.mp3\n", "l") == [b"ends in a return.mp3\r", b"b.mp3"]


@pytest.mark.parametrize("content", [b"a.mp3\0b.mp3\0", "a.mp3\nb.mp3\n".encode("utf-16-le")])
def test_nul_in_a_list_of_lines_is_one_sentence(content: bytes) -> None:
    with pytest.raises(InputError, match="holds NUL characters: use -0"):
        file_list(content, "l.txt")


def test_text_that_is_not_in_its_own_encoding_is_one_sentence() -> None:
    with pytest.raises(InputError, match="begins as UTF-16 and is not"):
        file_list(codecs.BOM_UTF16_LE + b"abc", "l.txt")


def test_playlists(tmp_path: Path) -> None:
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc/2.mp3").touch()
    text = b"#EXTM3U\n#EXTINF:12,A - B\n1.mp3\r\n\ndisc\\2.mp3\n/elsewhere/3.mp3\nhttps://example.org/4.mp3\n"
    here = os.fsencode(tmp_path)
    expected = [here + b"/1.mp3", here + b"/disc/2.mp3", b"/elsewhere/3.mp3", b"https://example.org/4.mp3"]
    for name in ("list.m3u", "LIST.M3U8", "named otherwise.txt"):
        assert file_list(text, str(tmp_path / name)) == expected
    assert file_list(b"\xef\xbb\xbf#EXTM3U\n1.mp3", "-") == [b"1.mp3"]
    assert file_list(b"#1.mp3\n2.mp3", "plain.txt") == [b"#1.mp3", b"2.mp3"]  # a name may begin so


def test_a_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MAX_LIST_BYTES", 1 << 20)
    result = CliRunner().invoke(scan.main, ["--files-from", "/dev/zero"])
    assert result.exit_code == 2
    assert result.stderr == "Error: the list /dev/zero cannot be read: it is larger than 1 MiB.\n"
