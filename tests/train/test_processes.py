"""Worker processes: an interruption from the keyboard is handled by one process alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import signal, sys, threading, time
from sonicscan_train.processes import mapped

if __name__ != "__main__":
    time.sleep(1.5)  # a worker that is still importing

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.7, lambda: print("workers have begun", flush=True)).start()
    try:
        for result in mapped(abs, range(1000), 2):
            print(result, flush=True)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
"""


def test_workers_print_nothing_when_a_terminal_interrupts_all_processes(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(tmp_path / "program.py")], start_new_session=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stdout.readline() == "workers have begun\n"
        os.killpg(program.pid, signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (130, "")
