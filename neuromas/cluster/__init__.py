"""Runs the rollout workers and the learner: in this process, or as Ray actors that survive each other's death."""

import os

# A call to Ray that comes after the connection was closed shall fail, not start a cluster of its own. Ray reads this
# when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
