"""How good a model is: scores of tracks, calibration, cross-fitting, evaluation."""
