"""Receive what logging.handlers.SocketHandler sends and write one rotating file per logger."""

__version__ = "0.1.0"
