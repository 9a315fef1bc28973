"""Runs a loaded model: fixed-size batches of images become logits."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from sonicscan.arrays import Float32
from sonicscan.errors import DeviceError, ModelError
from sonicscan.model.loading import Model
from sonicscan.model.running import OverTimeError, Runs, batch_limit_s
from sonicscan.model.sessions import Device, is_out_of_memory
from sonicscan.spec import INPUT_NAME, OUTPUT_NAMES
from sonicscan.text import first_line


class BoundSession:
    """Runs batches of one shape from a device buffer that is allocated once; `session.run` allocates one for each
    batch. Copying and running release the interpreter lock, so the next batch is filled meanwhile.

    Args:
        session: a session that runs on `device`.
        device: `cuda`; or `cpu`, which gives no gain.
        shape: of the batches.
    """

    def __init__(self, session: ort.InferenceSession, device: Device, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._session = session
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device.kind, device.index)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(INPUT_NAME, self._input)
        self._binding.bind_output(OUTPUT_NAMES[0], "cpu")

    def logits(self, images: Float32, options: ort.RunOptions | None = None) -> Float32:
        """Logits of one batch, float32 [batch, classes]; `options` are those of the run."""
        self._input.update_inplace(images)
        self._session.run_with_iobinding(self._binding, options)
        # The array is ONNX Runtime's own memory, which the next run overwrites.
        logits: Float32 = self._binding.get_outputs()[0].numpy().copy()
        return logits


class Detector:
    """Runs fixed-size batches, and smaller ones after memory has run out.

    Args:
        model: the loaded model.
        batch_size: images at a time.

    Attributes:
        runs: the current runs; once they are stopped, this detector cannot run again.
    """

    def __init__(self, model: Model, batch_size: int) -> None:
        self.model = model
        self.runs = Runs()
        self.batch_size = batch_size
        self._bound: BoundSession | None = None

    def logits(self, images: Float32, used: int) -> Float32:
        """Logits of a batch.

        Args:
            images: float32 [batch, 3, n_mels, n_frames], padded to a fixed batch.
            used: how many of them are real.

        Returns:
            float32 [used, classes].

        Raises:
            ModelError: the model fails, or gives logits of another shape, NaN, infinite or far too large ones.
            DeviceError: not even one image fits into the memory.
        """
        parts: list[Float32] = []
        done = 0
        while done < used:
            piece = images[done : done + self.batch_size]
            try:
                parts.append(self._run(piece))
            except OverTimeError as error:
                raise self.model.over_time(len(piece)) from error
            except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
                if not is_out_of_memory(error):
                    raise ModelError(f"{self.model.path} fails while it runs ({first_line(error)}).") from error
                if self.batch_size == 1:
                    raise DeviceError(
                        f"{self.model.path} does not fit into the memory of {self.model.device}, "
                        "even one window at a time."
                    ) from error
                self.batch_size = max(1, self.batch_size // 2)
                continue
            self.model.checked(OUTPUT_NAMES[0], parts[-1], len(piece))
            done += len(piece)
        return np.concatenate(parts)[:used]

    def _run(self, piece: Float32) -> Float32:
        model = self.model
        with self.runs.limited(batch_limit_s(len(piece))) as options:
            if model.device.kind == "cpu":
                logits: Float32 = model.session.run([OUTPUT_NAMES[0]], {INPUT_NAME: piece}, options)[0]
                return logits
            if self._bound is None or self._bound.shape != piece.shape:
                self._bound = None  # before the next one is made, so that there is room for it
                self._bound = BoundSession(model.session, model.device, piece.shape)
            return self._bound.logits(piece, options)
