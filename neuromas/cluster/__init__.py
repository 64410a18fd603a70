"""Runs the rollout workers and the learner: in this process, or as Ray actors that survive each other's death."""
