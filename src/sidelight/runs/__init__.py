"""What a run folder says of its jobs without reading any of them: the plan, the failures, and how far it is."""
