"""Run specs: a whole run as strict data, read from TOML and JSON."""
