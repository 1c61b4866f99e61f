"""Log files read back as records."""
