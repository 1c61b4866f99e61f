"""The processes of a collector: one holds the sockets, one collects."""
