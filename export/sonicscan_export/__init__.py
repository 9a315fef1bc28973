"""Export of trained detectors to ONNX."""
