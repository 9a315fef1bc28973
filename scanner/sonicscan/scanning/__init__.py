"""One scan: its options, its journal, and the report that it ends in."""
