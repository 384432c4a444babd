"""Fair sharing of a cluster among several runs."""
