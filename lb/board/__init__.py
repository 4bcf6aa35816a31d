"""Numbers that all workers of a node share: in shared memory, every cell with one writer, read as sums."""
