"""DNS from the catalog, and forwarding of everything else."""
