"""A Ray cluster of this machine alone is out of reach for everybody else on it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("ray")

# Starts such a cluster; prints the addresses on which its processes listen, and who may read its files.
PROGRAM = """
import json, os
from pathlib import Path
from sonicscan.engine.ray.cluster import Cluster
Cluster(None, 0.0, 0, 0)
parents = {}
for process in Path("/proc").iterdir():
    if process.name.isdigit():
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
own = {os.getpid()}
while more := {pid for pid, parent in parents.items() if parent in own} - own:
    own |= more
sockets = set()
for pid in own:
    try:
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        continue
    sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
listening = set()
for family in ("tcp", "tcp6"):
    for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and words[9] in sockets:
            listening.add(words[1].partition(":")[0])
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
print(json.dumps([sorted(listening), token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777, str(token)]))
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_listens_on_the_loopback_address_alone_and_its_token_is_private() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=200, check=True)
    listening, token_mode, folder_mode, token = json.loads(done.stdout.splitlines()[-1])
    assert listening and set(listening) <= LOOPBACK
    assert (token_mode, folder_mode) == (0o600, 0o700)
    assert subprocess.run(["test", "-e", token], check=False).returncode == 1  # gone with the cluster
