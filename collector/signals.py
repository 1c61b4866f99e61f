"""The signals that tell a running collector what to do."""

import signal

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Blocked from the first line of the process on: whoever waits for them also gets those that come early."""
