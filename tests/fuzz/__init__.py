"""Inputs of strangers, mutated from a seed: every one is read, or refused in one line."""
