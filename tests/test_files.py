"""Files that appear whole, and files and links that other users of a shared folder made under their names."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sonicscan.analysis.html import write_page
from sonicscan.files import open_to_append, replacing, write_whole
from sonicscan_train.data.manifest import write_split

ROOT = Path(__file__).parents[1]
OTHER_USER = 12345
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make others' files")


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    target.write_text("earlier")
    with pytest.raises(KeyError), replacing(target) as file:
        file.write(b"half")
        raise KeyError
    assert target.read_text() == "earlier" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [write_page, lambda _, path: write_split([], path)])
def test_a_link_at_the_old_temporary_name_is_not_written_through(tmp_path: Path, write: object) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "page.html"
    (tmp_path / ".page.html.part").symlink_to(victim)
    write("text", target)  # type: ignore[operator]
    assert victim.read_text() == "precious" and target.is_file()


def test_the_users_own_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real = tmp_path / "store" / "real.csv"
    real.write_text("earlier")
    (tmp_path / "middle.csv").symlink_to("store/real.csv")
    link = tmp_path / "report.csv"
    link.symlink_to("middle.csv")
    write_whole(link, "new")
    assert link.is_symlink() and (tmp_path / "middle.csv").is_symlink()
    assert real.read_text() == "new" and not real.is_symlink()


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "a", "new")


@as_root
def test_a_link_of_another_user_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "report.csv"
    link.symlink_to(victim)
    os.chown(link, OTHER_USER, OTHER_USER, follow_symlinks=False)
    write_whole(link, "new")
    assert victim.read_text() == "precious"
    assert not link.is_symlink() and link.read_text() == "new"


def test_an_earlier_files_permissions_and_group_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    target.write_text("earlier")
    target.chmod(0o4640)
    write_whole(target, "new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640  # and no set-user-ID bit


@as_root
def test_another_users_file_keeps_its_owner_only_where_not_everybody_can_plant_it(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    for folder in (own, shared):
        folder.mkdir()
        (folder / "report.csv").write_text("earlier")
        (folder / "report.csv").chmod(0o666)
        os.chown(folder / "report.csv", OTHER_USER, OTHER_USER)
    shared.chmod(0o1777)
    for folder in (own, shared):
        write_whole(folder / "report.csv", "new")
    kept, planted = (own / "report.csv").stat(), (shared / "report.csv").stat()
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (OTHER_USER, OTHER_USER, 0o666)
    assert planted.st_uid == 0 and not planted.st_mode & 0o022


def test_a_fifo_or_a_folder_at_the_name_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            write_whole(tmp_path / name, "new")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "folder"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    left = tmp_path / ".report.csv.0123456789abcdef.part"
    left.write_text("half")
    (tmp_path / ".report.csv.note.part").write_text("not ours")
    os.utime(left, (0, 0))
    with replacing(target) as file:
        held = next(p for p in tmp_path.glob(".report.csv.*.part") if not p.read_bytes())
        os.utime(held, (0, 0))
        code = "import sys, pathlib, sonicscan.files as f; f.write_whole(pathlib.Path(sys.argv[1]), '1')"
        subprocess.run([sys.executable, "-c", code, str(target)], check=True)
        assert held.exists() and not left.exists() and target.read_text() == "1"
        file.write(b"2")
    assert target.read_text() == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".report.csv.note.part", "report.csv"]


def test_appending_opens_neither_links_nor_fifos(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(OSError):
            open_to_append(tmp_path / name)
    for line in (b"1\n", b"2\n"):
        with open_to_append(tmp_path / "rows") as file:
            file.write(line)
    assert (tmp_path / "rows").read_bytes() == b"1\n2\n"
    assert stat.S_IMODE((tmp_path / "rows").stat().st_mode) == 0o600


# Keys are never replaced; a checkpoint and what follows are written into folders that `tempfile` made for them alone.
MAY_WRITE = {"sonicscan/signing.py", "nets/checkpoint.py", "sound/stress.py", "sonicscan_export/int8.py"}
# Functions of libraries that write to the file or name in this argument; `replacing` gives them an open file.
WRITERS = {
    "save": 1,
    "save_model": 1,
    "save_file": 1,
    "savefig": 0,
    "to_csv": 0,
    "to_parquet": 0,
    "write_table": 1,
    "ParquetWriter": 0,
    "SoundFile": 0,
    "open_memmap": 0,
    "memmap": 0,
    "tofile": 0,
    "copy": 1,
    "copyfile": 1,
    "move": 1,
}
LIBRARIES = {"np", "torch", "onnx", "pq", "soundfile", "shutil", "picture", "figure", "table", "frame"}


def test_no_module_but_files_writes_by_hand() -> None:
    found = []
    for module in (path for room in ("scanner", "train", "export") for path in (ROOT / room).rglob("*.py")):
        if module.name == "files.py" or any(str(module).endswith(name) for name in MAY_WRITE):
            continue
        tree = ast.parse(module.read_text(encoding="utf-8"))
        opened = {name for node in ast.walk(tree) for name in _opened_by(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (_writes_by_hand(node) or _writes_to_a_name(node, opened)):
                found.append(f"{module}:{node.lineno}")
    assert not found


def test_the_search_for_writing_by_hand_finds_it() -> None:
    lines = [
        "path.write_text('')",
        "open(path, 'w')",
        "path.open(mode='ab')",
        "torch.save(state, path)",
        "np.save(path, x)",
        "figure.savefig(path)",
        "pq.write_table(table, path)",
        "soundfile.write(path, sound, 44100)",
    ]
    for line in lines:
        call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
        assert _writes_by_hand(call) or _writes_to_a_name(call, {"file"}), line
    assert not _writes_to_a_name(ast.parse("torch.save(state, file)").body[0].value, {"file"})  # type: ignore[attr-defined]


def _opened_by(node: ast.AST) -> list[str]:
    """Names of open files: of a `with` block, an array in memory, or an argument that is annotated as one."""
    if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
        return [node.optional_vars.id]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and "IO" in ast.unparse(node.value.func):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.arg) and node.annotation is not None and "IO[" in ast.unparse(node.annotation):
        return [node.arg]
    return []


def _writes_to_a_name(call: ast.Call, opened: set[str]) -> bool:
    """Whether a call makes a library write to a file that is not open."""
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, name = getattr(call.func.value, "id", ""), call.func.attr
    place = 0 if (owner, name) in {("np", "save"), ("soundfile", "write"), ("picture", "save")} else WRITERS.get(name)
    if owner not in LIBRARIES or place is None or len(call.args) <= place:
        return False
    return ast.unparse(call.args[place]) not in opened


def _writes_by_hand(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "touch", "NamedTemporaryFile", "mkstemp"):
        return True
    if name != "open" or (isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "av"):
        return False
    modes = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(isinstance(m, ast.Constant) and isinstance(m.value, str) and set(m.value) & set("wxa") for m in modes)
