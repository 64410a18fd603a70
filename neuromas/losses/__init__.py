"""Policy-gradient losses: pure functions of log-probabilities, in one dict. Loads no torch."""
