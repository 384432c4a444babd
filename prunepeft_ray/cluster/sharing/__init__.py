"""Fair sharing of a cluster between runs."""
