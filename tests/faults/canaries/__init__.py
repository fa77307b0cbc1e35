"""Canaries: planted bugs that the tests must catch, or else they prove nothing."""
