"""Keeping the catalog: what is wrong with its files, and what newer sources say.

Knows rules about facts and where facts can be asked for; knows nothing of plans.
"""
