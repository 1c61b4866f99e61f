"""Clients: where they connect, and what is read from them."""
