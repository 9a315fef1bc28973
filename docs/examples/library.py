"""Scores a folder, one file, and sound in memory, with a model that is loaded once."""

import soundfile

import sonicscan

with sonicscan.Scanner(max_fpr=0.01, device="cpu") as scanner:
    for result in scanner.scan("demo"):
        print(result.path, result.status, result.score, result.verdict)

    result = scanner.score_file("demo/melody 5.mp3")
    print(result.title, result.windows, result.p_value)

    samples, sample_rate = soundfile.read("demo/melody 1.wav", dtype="float32")
    print(scanner.score(samples, sample_rate).verdict)

    evidence = scanner.explain("demo/melody 5.mp3")
    print(evidence.margin, evidence.track_cells.shape)

try:
    sonicscan.Scanner("no such model.onnx")
except sonicscan.ModelError as error:
    print(error)
