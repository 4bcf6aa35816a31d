"""A million hostile DNS packets."""
