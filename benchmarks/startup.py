"""`sonicscan --help` takes at most three times `python -c 'import click'`.

python benchmarks/startup.py [--rounds N]
"""

from __future__ import annotations

import subprocess
import sys

from paired import PROGRAM, Claim, conclude, in_turns, median, parser, ratio, wall


def main() -> None:
    options = parser(__doc__).parse_args()

    def run(*command: str) -> float:
        return wall(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    times = in_turns(
        lambda: run(PROGRAM, "--help"),
        lambda: run(sys.executable, "-c", "import click"),
        rounds=options.rounds or 30,
        warm_up=2,
    )
    note = f"{1e3 * median(times, 0):.0f} ms"
    conclude(
        [Claim("time: `sonicscan --help` / `import click`", ratio(times, 0, 1), 3, at_most=True, note=note)], options
    )


if __name__ == "__main__":
    main()
