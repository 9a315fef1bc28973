"""How the members compare, alone and in every mean of several, on the left-out excerpts.

    python -m sonicscan_train.bundled.compare CORPUS --out DIR [--take MODEL]

Windows are the scanner's, its default of each excerpt; the networks run in PyTorch, in float32. Whoever chooses by
this table should say among how many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch

from sonicscan.audio.decode import read_windows
from sonicscan.audio.images import SILENT_PEAK
from sonicscan.audio.melspec import log_mel
from sonicscan.audio.windows import WindowPlan
from sonicscan.scoring.aggregate import track_margin
from sonicscan.spec import AudioSpec
from sonicscan_train.bundled.corpus import Excerpt
from sonicscan_train.bundled.evaluate import judging
from sonicscan_train.bundled.export import read_members
from sonicscan_train.bundled.measure import MEASURES
from sonicscan_train.bundled.members import MEMBERS
from sonicscan_train.bundled.network import SonicNet, restored
from sonicscan_train.bundled.prepare import prepare
from sonicscan_train.bundled.split import Holdout

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Run folder of `sonicscan_train.bundled`.")
@click.option("--take", type=FILE, help="Bundled model with the members that the run folder lacks.")
def main(corpus: Path, out: Path, take: Path | None) -> None:
    """Print AUC and what is caught, of each member and of the mean of each set of them, best last."""
    networks = dict(members(out, take))
    excerpts = [e for e in judging(prepare(corpus, out / "cache", Holdout(), AudioSpec())) if e.label != "codec"]
    margins = [window_margins(corpus / e.path, list(networks.values())) for e in excerpts]
    rows = []
    for n in range(1, len(networks) + 1):
        for chosen in itertools.combinations(range(len(networks)), n):
            names = "".join(MEMBERS[list(networks)[i]].name for i in chosen)
            rows.append((figures(excerpts, margins, chosen), names))
    for (auc, *caught), names in sorted(rows):
        click.echo(f"{names:8} AUC {auc:.3f}  caught at 1% and 5% FPR: {caught[0]:.1%}, {caught[1]:.1%}")


def members(out: Path, take: Path | None) -> Iterator[tuple[int, SonicNet]]:
    """The trained members by number: averaged weights from the run folder, or those of an earlier file."""
    taken = {} if take is None else read_members(take)
    for i, member in enumerate(MEMBERS):
        checkpoint = out / f"member_{i}" / "last.pt"
        if checkpoint.exists():
            taken[i] = torch.load(checkpoint, weights_only=True)["average"]
        if i in taken:
            yield i, restored(taken[i], member.whiten)


def window_margins(path: Path, networks: list[SonicNet]) -> npt.NDArray[np.float64]:
    """Margins of an excerpt's windows, [networks, windows]; silent windows are left out."""
    spec = AudioSpec()
    windows = read_windows(bytes(path), spec, WindowPlan())
    images = [log_mel(spec)(w.samples) for w in windows if np.abs(w.samples).max() >= SILENT_PEAK]
    if not images:
        return np.zeros((len(networks), 0))
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(images))[:, None]
        logits = torch.stack([network.train_logits(batch) for network in networks]).double()
    margins: npt.NDArray[np.float64] = (logits[..., 1] - logits[..., 0]).numpy()
    return margins


def figures(
    excerpts: list[Excerpt], margins: list[npt.NDArray[np.float64]], chosen: tuple[int, ...]
) -> tuple[float, ...]:
    """The measures of the card, of the mean of some members."""
    heard = [(e.is_ai, m) for e, m in zip(excerpts, margins, strict=True) if m.shape[1]]
    ai = np.array([is_ai for is_ai, _ in heard])
    scores = np.array([track_margin(m[list(chosen)].mean(axis=0).tolist()) for _, m in heard])
    return tuple(measure(ai, scores) for measure in MEASURES.values())


if __name__ == "__main__":
    main()
