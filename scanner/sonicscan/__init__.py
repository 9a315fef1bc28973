"""sonicscan scores every file of an audio library for being AI-generated music."""

__version__ = "0.1.0"
