"""How rows get to the disk: the writer's queue, parts, sealing, retention."""
