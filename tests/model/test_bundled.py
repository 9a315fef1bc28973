"""The bundled model's training code, on a corpus of noise and tones made here."""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthesis import write_model

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from sonicscan.audio.melspec import LogMel  # noqa: E402
from sonicscan.errors import ModelError  # noqa: E402
from sonicscan.spec import AudioSpec, ModelSpec  # noqa: E402
from sonicscan_train.bundled.augment import Augmentation, augment, standardise, warped  # noqa: E402
from sonicscan_train.bundled.batches import OWN, Batches, Pool, Sampling, weights  # noqa: E402
from sonicscan_train.bundled.codecs import Codec, round_trip  # noqa: E402
from sonicscan_train.bundled.corpus import Excerpt, excerpt_samples  # noqa: E402
from sonicscan_train.bundled.evaluate import calibrate, main_scores  # noqa: E402
from sonicscan_train.bundled.export import bare_spec, export, read_members  # noqa: E402
from sonicscan_train.bundled.fit import Schedule, Teacher, fit  # noqa: E402
from sonicscan_train.bundled.measure import auc, caught_at  # noqa: E402
from sonicscan_train.bundled.melcache import MelFrames, cache_decibels, to_float, window_decibels  # noqa: E402
from sonicscan_train.bundled.members import MEMBERS  # noqa: E402
from sonicscan_train.bundled.network import (  # noqa: E402
    ARCHITECTURE,
    Ensemble,
    SonicNet,
    folded,
    restored,
    whitened,
)
from sonicscan_train.bundled.prepare import prepare, training_pools  # noqa: E402
from sonicscan_train.bundled.split import Holdout, components, left_out  # noqa: E402
from sonicscan_train.bundled.student import Pupil, save_checkpoint  # noqa: E402
from sonicscan_train.nets import checkpoint  # noqa: E402

SPEC = AudioSpec()
HOLDOUT = Holdout(sources=("gen-b",), creators_of=(("gen-a", 0.4),), human_excerpts=4, keep=("site-0",))


def excerpt(label: str, source: str, group: str, name: str = "") -> Excerpt:
    return Excerpt(f"audio/{name or source + group}.wav", label, source, "here", group, "CC0")


def rows() -> list[Excerpt]:
    human = [excerpt("human", f"site-{i // 2}", f"song-{i}") for i in range(8)]
    ai = [excerpt("ai", f"gen-{'ab'[i % 2]}", f"creator-{i}") for i in range(8)]
    return [*human, *ai, excerpt("codec", "vocoder", "song-0")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People's music is noise here and AI's is a tone: what is tested is the machinery."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    time = np.arange(7 * 16000) / 16000
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Excerpt)])
        writer.writeheader()
        for i, row in enumerate(rows()):
            tone = np.sin(2 * np.pi * (200 + 50 * i) * time)
            sound = 0.1 * rng.standard_normal(len(time)) + (tone if row.is_ai else 0.0)
            soundfile.write(folder / row.path, 0.3 * sound, 16000)
            writer.writerow(dataclasses.asdict(row))
    return folder


@pytest.mark.parametrize("whiten", [0, 31])
def test_maps_average_to_logits_and_folding_changes_nothing(whiten: int) -> None:
    torch.manual_seed(0)
    network = SonicNet(whiten=whiten)
    for _ in range(3):
        network.train_logits(torch.randn(4, 1, 256, 256))  # so that batch statistics are not the initial ones
    network.eval()
    image = torch.randn(2, 1, 256, 256).expand(2, 3, 256, 256)
    with torch.no_grad():
        logits, maps = network(image)
        assert maps.shape == (2, 2, 8, 8)
        torch.testing.assert_close(maps.mean(dim=(2, 3)), logits, atol=1e-6, rtol=0)
        torch.testing.assert_close(network.train_logits(image), logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(folded(network)(image)[0], logits, atol=1e-5, rtol=1e-4)


def test_a_whitened_image_has_lost_its_equaliser_and_kept_its_lines() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.standard_normal((2, 1, 256, 256)).astype(np.float32))
    slope = torch.linspace(-3, 3, 256).view(1, 1, 256, 1)
    line = torch.zeros(1, 1, 256, 1)
    line[:, :, 100] = 5.0
    plain = whitened(image, 31)
    inner = slice(31, -31)  # at the edges the mean is over fewer rows, and one-sided
    torch.testing.assert_close(whitened(image + slope, 31)[:, :, inner], plain[:, :, inner], atol=1e-4, rtol=0)
    rise = (whitened(image + line, 31) - plain)[:, :, 100]
    torch.testing.assert_close(rise, torch.full_like(rise, 5.0 * 30 / 31), atol=1e-4, rtol=0)


def test_layers_are_of_one_class_and_add_power() -> None:
    excerpts = [excerpt(label, label, f"{i}") for label in ("human", "ai") for i in range(4)]
    pool = Pool(excerpts, [])
    sampling = Sampling(batch=8, p_layer=1.0, layer_db=(0.0, 0.0))
    batches = Batches([pool], SPEC, sampling, Augmentation(), 0)
    level = torch.tensor([0.0] * 4 + [-60.0] * 4).view(8, 1, 1)
    decibels = level.expand(8, 256, 256).clone()
    decibels[:, 0, 0] = 0.0  # the maximum, which each window is measured from
    layered = batches._layered(decibels, 4, np.random.default_rng(0))
    torch.testing.assert_close(layered[:4], torch.full((4, 256, 256), 3.0103), atol=1e-3, rtol=0)
    torch.testing.assert_close(layered[4:, 1:], torch.full((4, 255, 256), -56.9897), atol=1e-3, rtol=0)


def test_partners_are_in_the_batch_with_the_music_that_they_were_made_from(tmp_path: Path) -> None:
    human = [excerpt("human", "site", f"song-{i}") for i in range(6)]
    partners = [dataclasses.replace(e, label="codec", source=f"{OWN}decoder", group=e.path) for e in human]
    rng = np.random.default_rng(2)
    sound = (8000 * rng.uniform(-1, 1, (6, excerpt_samples(SPEC)))).astype(np.int16)
    mel = cache_decibels(sound, list(range(6)), tmp_path / "mel.npy", SPEC)
    still = Augmentation(p_eq=0, p_dynamics=0, p_noise=0, p_low_pass=0, p_high_pass=0, p_roll=0, p_mask=0)
    pools = [Pool(human, [(sound, mel)]), Pool(partners, [(sound, mel)])]
    batches = Batches(pools, SPEC, Sampling(batch=8, p_layer=0, p_mixup=0, paired=True), still, 0)
    images, target = batches(0, 256)
    assert target.tolist() == [0.0] * 4 + [1.0] * 4
    torch.testing.assert_close(images[:4], images[4:])  # the "decoder" here changes nothing
    assert not torch.equal(images[0], images[1])


def test_no_group_and_no_left_out_source_is_on_two_sides() -> None:
    excerpts = rows()
    judges = left_out(excerpts, HOLDOUT)
    sides = {True: [e for e, j in zip(excerpts, judges, strict=True) if j]}
    sides[False] = [e for e in excerpts if e not in sides[True]]
    assert not {e.group for e in sides[True]} & {e.group for e in sides[False]}
    divided = {e.source for e in sides[True]} & {e.source for e in sides[False]}
    assert divided == {"gen-a"}  # some of its creators are left out, each as a whole
    assert all(judge for e, judge in zip(excerpts, judges, strict=True) if e.source == "gen-b")
    assert sum(e.label == "human" for e in sides[True]) >= HOLDOUT.human_excerpts
    assert judges == left_out(excerpts, HOLDOUT)
    assert judges != left_out(excerpts, dataclasses.replace(HOLDOUT, sources=("gen-a",)))


def test_sources_that_share_a_group_through_a_third_are_one_component() -> None:
    chain = [excerpt("ai", "a", "1"), excerpt("ai", "b", "1"), excerpt("ai", "b", "2"), excerpt("human", "c", "2")]
    assert components([*chain, excerpt("human", "d", "3")]) == [{"a", "b", "c"}, {"d"}]


def test_weights_balance_classes_and_dampen_large_sources() -> None:
    excerpts = [excerpt("ai", "big", f"{i}") for i in range(16)] + [excerpt("ai", "small", "s")]
    excerpts += [excerpt("human", "x", "h")]
    drawn = weights(excerpts, Sampling(boost={}))
    assert drawn.sum() == pytest.approx(1.0)
    assert drawn[-1] == pytest.approx(0.5)
    assert drawn[:16].sum() / drawn[16] == pytest.approx(4.0)  # not 16


def test_windows_from_the_cache_equal_the_scanners(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    audio = (8000 * rng.uniform(-1, 1, (2, 7 * SPEC.sample_rate))).astype(np.int16)
    cached = cache_decibels(audio, [0, 1], tmp_path / "mel.npy", SPEC)
    starts = np.array([0, 37])
    images = window_decibels(cached, audio, starts, MelFrames(SPEC))
    logmel = LogMel(SPEC)
    for i, start in enumerate(starts):
        window = to_float(audio[i, start * SPEC.hop_length :][: SPEC.window_samples])
        assert np.abs(logmel.decibels(window) - images[i]).max() < 0.005
        standard = standardise(torch.from_numpy(images[i : i + 1]), SPEC)[0].numpy()
        assert np.abs(logmel(window) - standard).max() < 1e-3


def test_augmentation_is_finite_standardised_and_repeatable() -> None:
    decibels = 20 * torch.randn(6, 256, 256) - 40
    decibels[0] = -100.0  # digital silence
    made = [augment(decibels, Augmentation(), SPEC, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert made[0].shape == decibels.shape
    assert torch.isfinite(made[0]).all()
    assert torch.equal(made[0], made[1])
    torch.testing.assert_close(made[0][1:].mean(dim=(1, 2)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(made[0][1:].std(dim=(1, 2)), torch.ones(5), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "codec",
    [
        Codec("libmp3lame", "mp3", 22050, 64),
        Codec("aac", "mp4", 22050, 64),
        Codec("libopus", "ogg", 48000, 48),
        Codec("vorbis", "ogg", 22050, quality=0.5),
    ],
    ids=lambda codec: codec.encoder,
)
def test_codecs_keep_length_and_most_of_the_sound(codec: Codec) -> None:
    time = np.arange(22050) / 22050
    sound = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    back = round_trip(sound, 22050, codec)
    assert back.shape == sound.shape
    spectrum = np.abs(np.fft.rfft(back))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert np.sqrt(np.mean(back**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.15)


def test_auc_and_caught_at_a_rate() -> None:
    ai = np.array([False, False, False, False, True, True])
    scores = np.array([0.1, 0.2, 0.3, 0.8, 0.8, 0.9])
    assert auc(ai, scores) == pytest.approx(7.5 / 8)
    assert caught_at(ai, scores, 0.01) == pytest.approx(0.5)  # a tie with a person's track is not caught
    assert caught_at(ai, scores, 0.25) == pytest.approx(1.0)


def test_resumed_run_equals_an_uninterrupted_one_and_exports(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare(corpus, tmp_path / "cache", HOLDOUT, SPEC)
    pools = training_pools(prepared, tmp_path / "cache", 1, 7, SPEC)
    batches = Batches(pools, SPEC, Sampling(batch=4), Augmentation(), 7)
    schedule = Schedule(steps=4, checkpoint_every=2, narrow=64)
    states = [
        fit(
            functools.partial(SonicNet, whiten=member.whiten),
            batches,
            dataclasses.replace(schedule, seed=i),
            tmp_path / f"whole_{i}",
            _ignore,
        )
        for i, member in enumerate(MEMBERS)
    ]
    schedule = dataclasses.replace(schedule, seed=1)
    second = functools.partial(SonicNet, whiten=MEMBERS[1].whiten)
    with pytest.raises(KeyboardInterrupt):
        fit(second, batches, schedule, tmp_path / "parts", _interrupt)
    resumed = fit(second, batches, schedule, tmp_path / "parts", _ignore)
    assert all(torch.equal(states[1][name], resumed[name]) for name in resumed)

    path = tmp_path / "model.onnx"
    export(dict(enumerate(states)), bare_spec(SPEC, ARCHITECTURE), path)
    spec, scored = calibrate(path, prepared, corpus, {"steps": 4})
    recipes = [dataclasses.asdict(member) for member in MEMBERS]
    assert spec.provenance == {"precision": "fp32", "steps": 4, "members": recipes}
    assert spec.calibration.n == sum(e.label == "human" for e in scored.excerpts) > 0
    assert "AUC" in spec.metrics["summary"]
    assert len(main_scores(scored).scores) == len(scored.scores)  # the codec excerpt shares a song with training
    session = onnxruntime.InferenceSession(path)
    assert ModelSpec.from_json(session.get_modelmeta().custom_metadata_map["sonicscan.spec"]) == spec
    image = np.random.default_rng(0).standard_normal((3, 3, 256, 256)).astype(np.float32)
    logits, maps = session.run(None, {"spectrogram": image})
    assert np.abs(maps.mean(axis=(2, 3)) - logits).max() < 1e-5
    network = Ensemble([restored(state, member.whiten) for member, state in zip(MEMBERS, states, strict=True)])
    with torch.no_grad():
        of_networks = network(torch.from_numpy(image))[0].numpy()
    # Weights are stored in float16, so a file differs from the networks, and what is read from it does not.
    assert np.abs(of_networks - logits).max() < 2e-3
    assert path.stat().st_size < 0.6 * sum(4 * value.numel() for state in states for value in state.values())
    read = read_members(path)
    assert list(read) == list(range(len(MEMBERS)))
    taken = Ensemble([restored(state, MEMBERS[i].whiten) for i, state in read.items()])
    with torch.no_grad():
        assert np.abs(taken(torch.from_numpy(image))[0].numpy() - logits).max() < 1e-4

    # Lambda learns from them, and becomes a checkpoint that says the same.
    teacher = Teacher([restored(state, member.whiten) for member, state in zip(MEMBERS, states, strict=True)])
    two = Schedule(steps=2, narrow=128, wide_share=0.5)
    learnt = fit(Pupil, batches, two, tmp_path / "student", _ignore, teacher)
    save_checkpoint(learnt, tmp_path / "lambda")
    detector, contract = checkpoint.load(tmp_path / "lambda")
    pupil = Pupil().eval()
    pupil.load_state_dict(learnt)
    with torch.no_grad():
        one = torch.from_numpy(image[:1, :1])
        torch.testing.assert_close(detector(one.expand(-1, 3, -1, -1)), pupil.train_logits(one))
    assert contract.architecture == detector.architecture == "whitened_lambda_resnet26rpt_256"
    with pytest.raises(ModelError, match="holds no members"):
        read_members(write_model(tmp_path / "other.onnx"))


def test_a_teacher_has_its_share_of_the_target() -> None:
    torch.manual_seed(0)
    networks = [SonicNet().eval(), SonicNet().eval()]
    images, target = torch.randn(4, 1, 256, 128), torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert torch.equal(Teacher(networks, 0.0).blend(images, target), target)
    said = Teacher(networks, 1.0).blend(images, target)
    with torch.no_grad():
        logits = torch.stack([network.train_logits(images) for network in networks]).mean(dim=0)
    expected = torch.softmax(logits, dim=1)[:, 1]
    torch.testing.assert_close(said, expected, atol=0.02, rtol=0)  # bfloat16
    torch.testing.assert_close(Teacher(networks, 0.25).blend(images, target), 0.75 * target + 0.25 * said)


def test_a_warp_moves_rows_up_and_down() -> None:
    decibels = torch.full((3, 256, 8), -80.0)
    decibels[:, 100] = 0.0
    decibels[:, 250] = -10.0
    moved = warped(decibels, torch.tensor([1.0, 1.1, 0.9]).view(3, 1, 1))
    assert torch.equal(moved[0], decibels[0])
    assert moved.argmax(dim=1).unique(dim=1).flatten().tolist() == [100, 110, 90]
    assert moved[1, 200:].max() < -60  # row 250 has left at the top
    assert moved[2, 225].min() == -10.0
    assert moved[2, 232:].max() == -80.0  # nothing comes in from above


def test_lambda_layers_say_what_timms_say_and_take_narrower_images() -> None:
    timm = pytest.importorskip("timm")
    from sonicscan_train.nets.lambda_layer import FactoredLambdaLayer, factor_lambda_layers

    torch.manual_seed(0)
    network = timm.create_model("lambda_resnet26rpt_256", num_classes=0).eval()
    layers = [m for m in network.modules() if type(m).__name__ == "LambdaLayer"]
    assert len(layers) == 3
    for layer in layers:
        torch.nn.init.normal_(layer.pos_emb)  # timm's start is nearly zero, which any order would give
    inputs = [torch.randn(2, layer.qkv.in_channels, *layer.feat_size) for layer in layers]
    with torch.no_grad():
        before = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
        factor_lambda_layers(network)
        assert {type(layer) for layer in layers} == {FactoredLambdaLayer}
        for layer, x, old in zip(layers, inputs, before, strict=True):
            torch.testing.assert_close(layer(x), old, atol=1e-3, rtol=1e-4)  # of values to 100
        # A layer that was built for half the width, with that part of the embedding that it can use, says the same.
        wide = layers[2]
        narrow = type(wide).__mro__[1](512, feat_size=(8, 4), r=None, dim_head=16).eval()
        own = {name: value for name, value in wide.state_dict().items() if name != "pos_emb"}
        narrow.load_state_dict(own | {"pos_emb": wide.pos_emb[:, 4:11]})
        x = torch.randn(2, 512, 8, 4)
        torch.testing.assert_close(wide(x), narrow(x), atol=1e-3, rtol=1e-4)
        assert network.forward_features(torch.randn(1, 3, 256, 128)).shape == (1, 2048, 8, 4)


def test_export_leaves_nothing_of_the_machine_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export({0: SonicNet().state_dict()}, ModelSpec(architecture=ARCHITECTURE), path)
    assert b'File "' not in path.read_bytes()


def _ignore(line: str) -> None:
    pass


def _interrupt(line: str) -> None:
    raise KeyboardInterrupt
