"""Runs as Ray Jobs, endpoints as Ray Serve applications: submit, watch, pause, cancel, resume. The door to Ray."""
