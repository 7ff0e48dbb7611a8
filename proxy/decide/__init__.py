"""Choices with a memory: which endpoint, whether again, whether at all. Pure; `now`, draws are arguments."""
