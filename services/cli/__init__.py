"""Commands of ``neuromas`` that run the service itself, named in its grammar and loaded when they are asked for."""
