"""Units of work: their leases, their inputs, and the commit of what they produced."""
