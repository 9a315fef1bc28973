"""The cluster of the Ray engine: connects to it, and divides its CPUs and GPUs among the actors."""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonicscan.errors import InputError, SonicscanError
from sonicscan.extras import missing_extra
from sonicscan.files import open_to_append
from sonicscan.text import first_line

_WAIT_S = 120.0  # how long to wait for a first node, and for the cluster to notice that a node is gone
_ANSWER_S = 10.0


@dataclass(frozen=True)
class Shares:
    """How the CPUs and GPUs of a cluster are divided.

    Attributes:
        nodes: nodes that are alive.
        detectors: actors that hold the model, each with `detector_cpus`, `detector_gpus` and `threads`.
        decoders: actors that decode, each with `decoder_cpus` and one process.
    """

    nodes: int
    detectors: int
    detector_cpus: float
    detector_gpus: float
    threads: int
    decoders: int
    decoder_cpus: float


def share(
    nodes: Sequence[tuple[float, float]], gpus_per_actor: float = 0.0, workers: int = 0, threads: int = 0
) -> Shares | None:
    """Divides nodes of (CPUs, GPUs) as the local engine divides a machine. Without GPUs, half of each node's CPUs
    decode, and the model may use all threads. With GPUs, each model actor takes one CPU, and the other CPUs decode.
    Returns None where the nodes have no room for one actor of each kind.
    """
    nodes = [node for node in nodes if node[0] > 0]
    cpus = sum(node[0] for node in nodes)
    if gpus_per_actor:
        detectors = sum(_fitting(gpus, gpus_per_actor) for _, gpus in nodes)
        each, used_threads = min(1.0, cpus / (2 * detectors)) if detectors else 0.0, threads or 1
    else:
        used_threads = int(min([node[0] for node in nodes], default=0))
        detectors = sum(_fitting(node[0], used_threads) for node in nodes) if used_threads else 0
        each = used_threads / 2
        used_threads = threads or used_threads
    if not detectors:
        return None
    decoder_cpus = min(1.0, (cpus - detectors * each) / (workers or 1))
    decoders = workers or max(1, math.floor(cpus - detectors * each))
    return Shares(len(nodes), detectors, each, gpus_per_actor, used_threads, decoders, decoder_cpus)


def _fitting(room: float, each: float) -> int:
    return math.floor(room / each + 1e-9)


class Cluster:
    """A Ray cluster; connects to it, or starts one on this machine.

    Args:
        address: None takes RAY_ADDRESS, or starts a cluster on this machine only.
        gpus_per_actor, workers, threads: as for `share`.

    Raises:
        InputError: Ray is not installed, there is no such cluster, or it has no such GPUs.
    """

    def __init__(self, address: str | None, gpus_per_actor: float, workers: int, threads: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as in later versions; no warning
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        own = _private() if address == "local" else {}
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError(missing_extra("--engine ray needs Ray", "ray")) from error
        self._ray: Any = ray
        self._wanted = gpus_per_actor, workers, threads
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are reported in rows, or raised
        if not ray.is_initialized():
            _connect(ray, address, own)
        if self._shares() is None:
            what = f"a GPU for --gpus-per-actor {gpus_per_actor:g}" if gpus_per_actor else "a CPU"
            raise InputError(f"no node of the Ray cluster has {what}.")

    def put(self, value: object) -> Any:
        """Stores `value` and returns a reference that the cluster's processes can resolve."""
        return self._ray.put(value)

    def shares(self) -> Shares:
        """Returns the shares of the nodes that the cluster lists as alive; waits for a first node.

        Raises:
            SonicscanError: the cluster is gone, or still has no usable node.
        """
        limit = time.monotonic() + _WAIT_S
        while (shares := self._shares()) is None:
            if time.monotonic() > limit:
                raise SonicscanError("no node of the Ray cluster is left; start one, then run the same command again.")
            time.sleep(1.0)
        return shares

    def wait_for_nodes(self) -> None:
        """Waits until every node that is listed as alive answers: a dead node stays listed for some seconds."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        answer = self._ray.remote(num_cpus=0, max_retries=0)(_answer)
        limit = time.monotonic() + _WAIT_S
        while time.monotonic() < limit:
            strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in self._alive()]
            asked = [answer.options(scheduling_strategy=strategy).remote() for strategy in strategies]
            answered, _ = self._ray.wait(asked, num_returns=len(asked), timeout=_ANSWER_S) if asked else ([], [])
            try:
                self._ray.get(answered)
            except self._ray.exceptions.RayError:
                continue
            if len(answered) == len(asked):
                return

    def _shares(self) -> Shares | None:
        resources = [node["Resources"] for node in self._alive()]
        return share([(r.get("CPU", 0.0), r.get("GPU", 0.0)) for r in resources], *self._wanted)

    def _alive(self) -> list[dict[str, Any]]:
        try:
            return [node for node in self._ray.nodes() if node["Alive"]]
        except Exception as error:  # Ray raises several types for a lost head node
            raise SonicscanError("the Ray cluster is gone; start it, then run the same command again.") from error


def _answer() -> None:
    """An empty task, which shows that a node answers."""


def _connect(ray: Any, address: str, own: dict[str, Any]) -> None:
    # Ray installs its own SIGTERM handler; the scan needs its own.
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # no other Ray work competes for the CPU
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray also raises bare exceptions, where a node does not start in time
        what = "Ray does not start on this machine" if address == "local" else f"there is no Ray cluster at {address}"
        raise InputError(f"{what} ({first_line(error)}).") from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _private() -> dict[str, Any]:
    """Protects a cluster on this machine from other users: sets environment variables and returns options of
    `ray.init`.

    All servers listen on 127.0.0.1 only, and require a token that only this user can read (Ray 2.52 and newer). The
    dashboard and the metrics server are off. Sockets and logs are in a folder that only this user can enter.
    """
    # Mode 0700. A short path, since Ray's socket names are long and their length is limited.
    folder = Path(tempfile.mkdtemp(prefix="sonicscan-ray-", dir="/tmp" if Path("/tmp").is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with open_to_append(folder / "token") as file:  # mode 0600
        file.write(secrets.token_hex(32).encode())
    if "ray" not in sys.modules:  # Ray reads it during import
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # means "listen on 127.0.0.1 only", on Linux too
    return {
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder / "ray"),  # Ray makes it open to everybody, inside a folder that nobody else can enter
        "_system_config": {"enable_metrics_collection": False},
    }


def _knock(address: str) -> None:
    """Raises OSError where no server listens at the address: Ray itself would retry for minutes."""
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
