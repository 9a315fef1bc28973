"""The engine that runs on a Ray cluster."""
