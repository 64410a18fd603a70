"""Models of what goes over the wire: requests are strict, answers hold what clients may rely on."""
