"""What happens to sound before training sees it: crops, effects, codecs, fixed variants, stress conditions."""
