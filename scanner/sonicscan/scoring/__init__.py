"""From logits to margins, scores, thresholds and verdicts."""
