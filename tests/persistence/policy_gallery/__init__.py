"""Forged policy files, each with its reason; README.md says how to add one."""
