"""From bytes to records: frames, payloads, and the fields of a LogRecord."""
