"""The bundled model, from a corpus folder to the ONNX file in the wheel, with one command.

    python -m sonicscan_train.bundled CORPUS --out DIR

    corpus ─▶ split ─▶ variants ─▶ melcache ─▶ augment + batches ─▶ fit ─▶ score ─▶ export ─▶ evaluate

It is apart from `sonicscan-train fit` on purpose: that command serves people with a GPU, their own
audio and a pretrained backbone; this one had two CPU cores, some 2,300 excerpts of seven seconds
and no pretrained weights, which asks for another network and for everything slow to be done once.
"""
