"""Handing over: what is in the spool goes to a destination, by a process of its own."""
