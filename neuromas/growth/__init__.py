"""Growth of a trained graph: plans, triggers, the controller, trials, lineage. The pure parts load no torch."""
