"""A demo org, its fleet of agents, and the small gateway that they call."""
