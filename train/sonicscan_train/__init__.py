"""Training of sonicscan's detectors."""
