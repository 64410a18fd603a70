"""The walk: a run from its spec to its result, stage by stage."""
