"""The HTTP face of the service. Reads and writes the store; loads no machine-learning stack and no Ray."""
