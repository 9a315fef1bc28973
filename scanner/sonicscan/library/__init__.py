"""What to scan: tracks, discovery of files, URLs and remote files."""
