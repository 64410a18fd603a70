"""What the service knows, as typed records: their fields, their states and the moves between them. Loads no store."""
