"""From a file to the log-mel images of its windows."""
