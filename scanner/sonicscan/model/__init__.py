"""From log-mel images to logits: the ONNX Runtime session, batching, fetched and bundled models."""
