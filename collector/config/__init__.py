"""The configuration: one TOML file, checked, as one frozen dataclass per table."""
