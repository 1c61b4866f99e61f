"""The admin port: what the collector says of itself, for reading only."""
