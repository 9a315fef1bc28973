"""The command-line programs `sonicscan` and `sonicscan-report`."""
