"""From a record to a line."""
