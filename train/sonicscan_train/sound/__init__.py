"""Processing of sound for training and evaluation: crops, effects, codecs, fixed variants, stress conditions."""
