"""Training in a worker: a plan, a loop that any step can be resumed from, checkpoints, a task."""
