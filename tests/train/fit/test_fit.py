"""Training for real, with timm's smallest network: it learns, resumes bit for bit, and works in several processes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner, Result
from training_sound import TINY, write_data, write_manifest

from sonicscan.errors import InputError, ModelError
from sonicscan.spec import PRESETS, ModelSpec
from sonicscan_train.cli import main
from sonicscan_train.data.clips import Clip, data_digest
from sonicscan_train.data.datasets import load
from sonicscan_train.data.splits import SplitPlan, split
from sonicscan_train.fit.average import Averaged
from sonicscan_train.fit.loop import Watcher, fit
from sonicscan_train.fit.recipes import Recipe, recipe_of
from sonicscan_train.fit.run import FitConfig, RunFolder, TrainingProgress
from sonicscan_train.nets import checkpoint
from sonicscan_train.nets.backbones import build
from sonicscan_train.packaged import read_packaged


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return split(load([str(write_data(tmp_path_factory.mktemp("data")))]), SplitPlan(train=0.5, valid=0.25, test=0.25))


def short(**changes: object) -> Recipe:
    """The robust recipe, cut short; its slow effects have tests of their own."""
    recipe = recipe_of("robust", TINY)
    assert recipe.augmentation is not None
    plan = dataclasses.replace(recipe.augmentation, reverb_p=0.0, tempo_p=0.0, pitch_p=0.1, codec_p=0.2)
    changes = {"epochs": 3, "steps_per_epoch": 3, "batch_size": 6, "valid_windows": 1, "augmentation": plan} | changes
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def config(clips: list[Clip], **changes: object) -> FitConfig:
    return FitConfig(TINY, "none", short(**changes), data_digest=data_digest(clips), seed=1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "best" / "model.safetensors")


def without_times(history: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "windows_per_s")} for row in history]


class Stopped(Exception):
    pass


def stop_in_the_third_epoch(epoch: int, steps: int) -> None:
    if epoch == 3:
        raise Stopped


def test_a_network_learns_and_leaves_a_checkpoint(clips: list[Clip], tmp_path: Path) -> None:
    recipe = short(epochs=3, steps_per_epoch=8, batch_size=6, lr=3e-3, ema=0.9, mixup=0.0, spec_augment=None)
    recipe = dataclasses.replace(recipe, augmentation=None)
    losses: list[float] = []
    run = tmp_path / "run"
    asked = FitConfig(TINY, "none", recipe, data_digest=data_digest(clips), seed=1, license_note="mine")
    progress = fit(clips, asked, run, watcher=Watcher(stepped=losses.append))
    assert len(losses) == 24 and sum(losses[-8:]) < 0.7 * sum(losses[:8])
    assert progress.best is not None and progress.best["valid_auc"] > 0.9
    assert progress.best["valid_auc"] == max(row["valid_auc"] for row in progress.history)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows == progress.history and [row["epoch"] for row in rows] == [1, 2, 3]
    for name in ("loss.png", "roc.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    model, spec = checkpoint.load(run / "best")
    assert model.architecture == TINY and spec.classes == ("human", "ai") and spec.audio == PRESETS["default"]
    assert (spec.data_digest, spec.license_note) == (asked.data_digest, "mine")
    assert spec.metrics["validation"]["valid_auc"] == progress.best["valid_auc"]
    assert [c.part for c in load([str(run / "split.csv")])] == [c.part for c in clips]


def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(clips: list[Clip], tmp_path: Path) -> None:
    asked = config(clips)
    whole = fit(clips, asked, tmp_path / "whole")

    with pytest.raises(Stopped):
        fit(clips, asked, tmp_path / "cut", watcher=Watcher(began=stop_in_the_third_epoch))
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 2
    torch.manual_seed(99)  # whatever happened in between
    # Another number of loader processes: the batches are the same.
    resumed = fit(clips, asked, tmp_path / "cut", resume=True, workers=1)
    assert without_times(resumed.history) == without_times(whole.history)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("whole", "cut")]
    for name in ("model", "averaged"):
        assert all(torch.equal(states[0][name][k], states[1][name][k]) for k in states[0][name])
    assert states[0]["optimizer"]["state"][0]["exp_avg"].equal(states[1]["optimizer"]["state"][0]["exp_avg"])
    assert states[0]["averaged"]["head.weight"].ne(states[0]["model"]["head.weight"]).any()
    # Nothing is left to do: nothing changes.
    assert fit(clips, asked, tmp_path / "cut", resume=True).history == resumed.history


def test_a_run_is_neither_overwritten_nor_mixed_with_another(clips: list[Clip], tmp_path: Path) -> None:
    asked = config(clips, epochs=1, steps_per_epoch=1, batch_size=2)
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"no run in .* to resume"):
        fit(clips, asked, run, resume=True)
    fit(clips, asked, run)
    before = (run / "best" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="add --resume"):
        fit(clips, asked, run)
    with pytest.raises(InputError, match=r"asked for recipe\.lr = 0\.001, not 0\.5"):
        fit(clips, dataclasses.replace(asked, recipe=dataclasses.replace(asked.recipe, lr=0.5)), run, resume=True)
    with pytest.raises(InputError, match="data_digest"):
        fit(clips, dataclasses.replace(asked, data_digest="other"), run, resume=True)
    (run / "state.pt").write_bytes((run / "state.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        fit(clips, asked, run, resume=True)
    assert (run / "best" / "model.safetensors").read_bytes() == before


def test_a_rate_that_is_far_too_high_ends_in_one_sentence(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lower --lr"):
        fit(clips, config(clips, lr=0.99, warmup=0.0, clip_norm=0.0, weight_decay=1e30), tmp_path / "run")


def test_parts_and_classes_that_are_missing(clips: list[Clip], tmp_path: Path) -> None:
    def attempt(some: list[Clip]) -> None:
        fit(some, config(some, epochs=1), tmp_path / "run")

    with pytest.raises(InputError, match="no clips to validate on"):
        attempt([c for c in clips if c.part != "valid"])
    with pytest.raises(InputError, match="validation needs music by people and by AI"):
        attempt([c for c in clips if c.part != "valid" or c.human])
    with pytest.raises(InputError, match="only ai"):
        attempt([c for c in clips if c.part != "train" or not c.human])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_while_training_is_one_sentence(clips: list[Clip], tmp_path: Path, workers: int) -> None:
    gone = [dataclasses.replace(c, path=str(tmp_path / "gone.wav")) if c.part == "train" else c for c in clips]
    with pytest.raises(InputError, match=r"^[^\n]*gone\.wav was readable when training began[^\n]*$"):
        fit(gone, config(gone), tmp_path / "run", workers=workers)


def test_the_mean_over_epochs_is_kept_and_resumed(clips: list[Clip], tmp_path: Path) -> None:
    asked, run = config(clips, mean_from=0.5, best="last"), tmp_path / "run"

    with pytest.raises(Stopped):
        fit(clips, asked, run, watcher=Watcher(began=stop_in_the_third_epoch))
    second = torch.load(run / "state.pt", weights_only=True)
    assert second["mean_epochs"] == 1  # the first of three epochs ends before half of the run
    fit(clips, asked, run, resume=True)
    third = torch.load(run / "state.pt", weights_only=True)
    assert third["mean_epochs"] == 2
    mean = {name: (value + third["averaged"][name]) / 2 for name, value in second["averaged"].items()}
    assert not torch.equal(mean["head.weight"], third["averaged"]["head.weight"])
    for name, value in third["mean"].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, mean[name])
    model, _ = checkpoint.load(run / "best")
    torch.testing.assert_close(model.head.weight.detach(), mean["head.weight"])


def test_a_student_learns_its_teachers_features_and_resumes_with_them(clips: list[Clip], tmp_path: Path) -> None:
    teacher = build(TINY, seed=3)
    checkpoint.save(tmp_path / "teacher", teacher, ModelSpec(teacher.architecture, audio=PRESETS["default"]))
    changes = {"hint_weight": 5.0, "lr": 1e-2, "best": "last"}
    asked = dataclasses.replace(config(clips, **changes), teachers=(str(tmp_path / "teacher"),))
    whole = fit(clips, asked, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(clips, asked, tmp_path / "cut", watcher=Watcher(began=stop_in_the_third_epoch))
    assert without_times(fit(clips, asked, tmp_path / "cut", resume=True).history) == without_times(whole.history)
    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("whole", "cut")]
    assert states[0]["projection"]["weight"].shape[0] == teacher.head.in_features
    for part in ("model", "projection"):
        assert all(torch.equal(states[0][part][name], states[1][part][name]) for name in states[0][part])
    assert not any("projection" in name for name in weights(tmp_path / "whole"))  # a checkpoint is the network alone
    losses = [float(str(row["train_loss"])) for row in whole.history]
    assert losses[-1] < losses[0] - 0.5  # cross-entropy alone begins at 0.7


def test_several_classes_are_the_sources(clips: list[Clip], tmp_path: Path) -> None:
    recipe = short(epochs=1, steps_per_epoch=1, batch_size=4)
    asked = FitConfig(TINY, "none", recipe, classes="source", families={"beta": "gamma"})
    fit(clips, asked, tmp_path / "run")
    model, spec = checkpoint.load(tmp_path / "run" / "best")
    assert spec.classes == ("human", "alpha", "gamma") and model.head.out_features == 3


def test_the_average_follows_slowly_and_ends_at_its_target() -> None:
    model = build(TINY, 2, seed=0)
    average = Averaged(model, 0.9)
    start = average.model.head.weight.clone()
    with torch.no_grad():
        model.head.weight += 1.0
    average.update()
    step = (average.model.head.weight - start).mean().item()
    assert step == pytest.approx(1 - 1 / 10, abs=1e-5)  # (1 + n) / (10 + n), n = 0
    for _ in range(200):
        average.update()
    assert torch.allclose(average.model.head.weight, model.head.weight, atol=1e-5)
    assert Averaged(model, 0.0).model is model


def command(data: Path | str, run: Path, *options: str) -> list[str]:
    return ["fit", "--data", str(data), "--out", str(run), "--backbone", TINY, "--batch-size", "4", "--workers", "0",
            "--epochs", "1", "--steps-per-epoch", "2", *options]  # fmt: skip


def invoke(arguments: list[str]) -> Result:
    return CliRunner().invoke(main, arguments)


def write_hub(home: Path) -> dict[str, torch.Tensor]:
    """A HF_HOME as the Hugging Face hub's client leaves it, with random weights of timm's test network in it."""
    import timm

    torch.manual_seed(5)
    model = timm.create_model(TINY, pretrained=False)
    repository = home / "hub" / f"models--timm--{TINY}.{model.pretrained_cfg['tag']}"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    tensors = model.state_dict()
    safetensors.torch.save_file(tensors, snapshot / "model.safetensors")
    return tensors


def test_pretrained_weights_come_through_timm_from_the_hubs_cache(tmp_path: Path) -> None:
    theirs = write_hub(tmp_path / "home")
    data = write_data(tmp_path / "data", 6, seconds=1.5)

    def train(home: Path, run: Path) -> subprocess.CompletedProcess[str]:
        arguments = command(data, run, "--weights", "pretrained", "--lr", "1e-9")
        return subprocess.run(
            [sys.executable, "-m", "sonicscan_train.cli", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )

    done = train(tmp_path / "home", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    kept = weights(tmp_path / "run")
    names = [name for name in theirs if not name.startswith("head.") and theirs[name].dim() == 4]
    assert len(names) > 10
    for name in names:  # two steps at such a rate change nothing that can be seen
        assert torch.allclose(kept[f"backbone.{name}"], theirs[name], atol=1e-6)
    refused = train(tmp_path / "empty", tmp_path / "other")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "pretrained weights" in refused.stderr and "--weights FILE" in refused.stderr


def test_the_command_trains_from_a_weights_file_and_divides_data_by_itself(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 6, seconds=1.5)
    safetensors.torch.save_file(build(TINY, 2, seed=3).state_dict(), tmp_path / "w.safetensors")
    (data.parent / "human000.wav").unlink()
    done = invoke(command(data, tmp_path / "run", "--weights", str(tmp_path / "w.safetensors"), "--max-bad", "1"))
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "human000.wav: there is no such file" in done.stderr
    assert "divided by groups" in done.stderr and "best epoch 1" in done.stderr
    parts = {c.part for c in load([str(tmp_path / "run" / "split.csv")])}
    assert parts == {"train", "valid", "test"}
    again = invoke(command(data, tmp_path / "run", "--weights", str(tmp_path / "w.safetensors"), "--max-bad", "1"))
    assert again.exit_code == 2 and "--resume" in again.stderr


def test_tracks_of_a_split_are_not_trained_on_because_other_data_has_none(tmp_path: Path) -> None:
    """A recipe without validation trains on all data without a split; the left-out parts of a split stay left out."""
    rows = [{"path": c.path, "label": c.label, "group": c.group, "split": part}
            for c, part in zip(load([str(write_data(tmp_path / "data", 3, seconds=1.5))]),
                               ("train", "holdout", "") * 2, strict=True)]  # fmt: skip
    data = write_manifest(tmp_path / "manifest.csv", rows)
    done = invoke(command(data, tmp_path / "run", "--weights", "none", "--recipe", str(cached_recipe(tmp_path))))
    assert done.exit_code == 2
    assert "2 of 6 clips have no part in the split, the first one" in done.stderr and "human002.wav" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_a_run_to_resume(tmp_path: Path, number: signal.Signals) -> None:
    data = write_data(tmp_path / "data", 6, seconds=1.5)
    arguments = command(data, tmp_path / "run", "--weights", "none")
    arguments[arguments.index("--epochs") + 1] = "500"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "sonicscan_train.cli", *arguments]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                second = invoke([*arguments, "--resume"])
                assert second.exit_code == 2 and "another process is training in" in second.stderr
                process.send_signal(number)
                break
        said = process.stderr.read()
        assert process.wait() == 130
    assert "add --resume to the same command" in said and "Traceback" not in said
    done = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert done >= 2
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert json.loads(state["progress"])["epoch"] == done


class Interrupting:
    """A value that is interrupted while it is saved."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        signal.raise_signal(signal.SIGINT)
        return OrderedDict, ()


def test_an_interruption_waits_until_the_state_is_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, FitConfig(TINY, "none", recipe_of("small", TINY)), resume=False)
    progress = TrainingProgress(epoch=1, history=[{"epoch": 1}])
    with pytest.raises(KeyboardInterrupt):
        run.write(progress, {"value": Interrupting()})
    found = run.read()
    assert found == (progress, {"value": OrderedDict()})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


@pytest.mark.slow
def test_two_processes_train_together_under_accelerate(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 6, seconds=1.5)
    # --multi_gpu is accelerate's way to start several processes; the environment then puts them on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "-m", "sonicscan_train.cli"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [*launch, *command(data, tmp_path / "run", "--weights", "none")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best epoch 1") == 1  # only one of them prints
    (row,) = (json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert (row["steps"], row["processes"]) == (2, 2)
    model, _ = checkpoint.load(tmp_path / "run" / "best")
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["lambda", "swin"])
def test_both_backbones_take_a_step(clips: list[Clip], tmp_path: Path, backbone: str) -> None:
    few = [c for c in clips if c.part == "train"] + [
        next(c for c in clips if c.part == "valid" and c.human is human) for human in (True, False)
    ]
    recipe = dataclasses.replace(
        short(), epochs=1, steps_per_epoch=1, batch_size=2, lr=recipe_of("robust", backbone).lr
    )
    progress = fit(few, FitConfig(backbone, "none", recipe), tmp_path / "run")
    assert progress.epoch == 1
    model, spec = checkpoint.load(tmp_path / "run" / "best")
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 256, 256)).shape == (1, 2)
    assert spec.architecture == model.architecture


def cached_recipe(folder: Path, **changes: object) -> Path:
    """The recipe `small`, cut short, as a file."""
    text = read_packaged("small", "recipes", "recipe")[0].read_text()
    values = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 4, "warmup_steps": 2, "ema": 0.5, "copies": 1, **changes}
    for name, value in values.items():
        text = re.sub(rf"^{name} = \S+", f"{name} = {value}", text, count=1, flags=re.MULTILINE)
    path = folder / "short.toml"
    path.write_text(text.replace("seconds = 7.0", "seconds = 5.1"))
    return path


def test_small_trains_from_a_cache_without_a_fold_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 6, seconds=5.2)
    clips = load([str(data)])
    rows = [{"path": Path(c.path).name, "fold": str(i % 3)} for i, c in enumerate(clips)]
    folds = write_manifest(tmp_path / "folds.csv", rows)
    recipe = cached_recipe(tmp_path)
    options = ["--recipe", str(recipe), "--weights", "none", "--folds", str(folds), "--fold", "1", "--workers", "0"]

    def arguments(run: str) -> list[str]:
        return ["fit", "--data", str(data), "--backbone", TINY, "--out", str(tmp_path / run),
                "--cache", str(tmp_path / "cache"), *options]  # fmt: skip

    done = invoke(arguments("whole"))
    assert done.exit_code == 0, done.stderr
    assert "last epoch 2" in done.stderr
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "cache").glob("*.npy")) == [
        "audio", "audio.npy", "mel", "mel.npy"]  # fmt: skip
    parts = {Path(c.path).name: c.part for c in load([str(tmp_path / "whole" / "split.csv")])}
    assert {parts[row["path"]] for row in rows if row["fold"] == "1"} == {"holdout"}
    assert {parts[row["path"]] for row in rows if row["fold"] != "1"} == {"train"}
    _, spec = checkpoint.load(tmp_path / "whole" / "best")
    assert {"recipe": "short", "fold": 1, "steps": 4}.items() <= spec.provenance.items()
    cut = tmp_path / "cut"
    whole_state = (tmp_path / "whole" / "state.pt").read_bytes()
    assert invoke([*arguments("cut"), "--epochs", "2"]).exit_code == 0
    assert (cut / "state.pt").exists() and whole_state
    first, second = weights(tmp_path / "whole"), weights(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = [*arguments("x")[:-6], "--fold", "1"]
    assert invoke(alone).exit_code == 2


def test_a_recipe_that_validates_uses_all_other_folds(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 9, seconds=1.5)
    clips = load([str(data)])
    folds = write_manifest(tmp_path / "folds.csv", [{"path": Path(c.path).name, "fold": str(i % 3)}
                                                    for i, c in enumerate(clips)])  # fmt: skip
    done = invoke(command(data, tmp_path / "run", "--weights", "none", "--folds", str(folds), "--fold", "1"))
    assert done.exit_code == 0, done.stderr
    parts = [c.part for c in load([str(tmp_path / "run" / "split.csv")])]
    assert set(parts) == {"train", "valid", "holdout"} and parts.count("holdout") == 6
    split_data = tmp_path / "run" / "split.csv"
    again = invoke(command(split_data, tmp_path / "b", "--weights", "none", "--folds", str(folds), "--fold", "1"))
    assert again.exit_code == 0 and "--folds replaces the parts that the data comes with" in again.stderr


def test_a_run_by_the_clock_ends_in_time(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 4, seconds=5.2)
    recipe = cached_recipe(tmp_path, epochs=1, schedule='"cosine"')
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=15)
    done = invoke(["fit", "--data", str(data), "--backbone", TINY, "--out", str(tmp_path / "run"), "--weights", "none",
                   "--recipe", str(recipe), "--until", f"{soon:%Y-%m-%dT%H:%M:%S}", "--workers", "0"])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert abs((datetime.datetime.now(datetime.UTC) - soon).total_seconds()) < 10
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) > 1  # more epochs than the recipe's: time counts
    assert rows[-1]["lr"] < rows[0]["lr"]
    assert f"epoch {len(rows)}: loss" in done.stderr


def test_a_run_whose_time_is_over_before_the_first_epoch_is_an_error(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 4, seconds=5.2)
    asked = command(data, tmp_path / "run", "--weights", "none", "--recipe", str(cached_recipe(tmp_path)))
    done = invoke([*asked, "--until", "2020-01-01T00:00"])
    assert done.exit_code == 2 and "--until was over before the first epoch" in done.stderr
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
    assert invoke([*asked, "--resume", "--until", f"{soon:%Y-%m-%dT%H:%M:%S}"]).exit_code == 0
    assert (tmp_path / "run" / "best").exists()


def test_the_end_of_a_run_by_the_clock_can_be_moved_and_nothing_else(clips: list[Clip], tmp_path: Path) -> None:
    asked = dataclasses.replace(config(clips, epochs=1), until=1000.0)
    moved = dataclasses.replace(asked, until=2000.0)
    for one, resume in ((asked, False), (moved, True)):
        with contextlib.closing(RunFolder(tmp_path, one, resume=resume)) as folder:
            folder.begin(one)
    with pytest.raises(InputError, match=r"asked for until = 2000\.0, not None"):
        RunFolder(tmp_path, dataclasses.replace(asked, until=None), resume=True)
    with pytest.raises(InputError, match="asked for seed"):
        RunFolder(tmp_path, dataclasses.replace(moved, seed=5), resume=True)
