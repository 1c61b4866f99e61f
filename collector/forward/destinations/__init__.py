"""The systems that records are handed over to, a module each."""
