"""One scan: its options, its journal and its report."""
