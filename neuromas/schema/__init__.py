"""What the pydantic models of all sections of a spec share."""
