"""One pass of a Topology on an example: prompts, the DAG scheduler, the records it leaves, and the workers."""
