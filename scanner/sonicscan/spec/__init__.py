"""The contract between training and scanning, stored in every model file.

`AudioSpec` defines the preprocessing. `Calibration` holds the scores of known tracks. `ModelSpec` adds the meaning of
the outputs. The contract is stored as JSON: under `sonicscan.spec` in an ONNX file's metadata, and beside every
training checkpoint. The scanner takes all preprocessing from it, so that a model is run as it was trained.
"""

from sonicscan.spec.audio import PRESETS, AudioSpec, digest_of
from sonicscan.spec.calibration import (
    DEFAULT_WINDOWS,
    MAX_LOWER_SCORES,
    MAX_STORED_SCORES,
    UNKNOWN_WINDOWS,
    Calibration,
    Category,
    Caught,
    Material,
    codec_categories,
    codec_class,
)
from sonicscan.spec.model import (
    HUMAN,
    INPUT_NAME,
    MAP_SIZE,
    MAX_CLASSES,
    METADATA_KEY,
    OUTPUT_NAMES,
    SPEC_VERSION,
    ModelSpec,
)

__all__ = [
    "DEFAULT_WINDOWS",
    "HUMAN",
    "INPUT_NAME",
    "MAP_SIZE",
    "MAX_CLASSES",
    "MAX_LOWER_SCORES",
    "MAX_STORED_SCORES",
    "METADATA_KEY",
    "OUTPUT_NAMES",
    "PRESETS",
    "SPEC_VERSION",
    "UNKNOWN_WINDOWS",
    "AudioSpec",
    "Calibration",
    "Category",
    "Caught",
    "Material",
    "ModelSpec",
    "codec_categories",
    "codec_class",
    "digest_of",
]
