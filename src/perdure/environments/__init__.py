"""Environments: how their state is taken where it does not lie in plain attributes.

What is known about particular libraries is registered by dotted class name, so that none of them is imported to be
known. Nothing here needs to be called: capturing a world uses it.
"""
