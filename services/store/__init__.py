"""Service state behind one protocol: SQLite on one machine, Redis in production."""
