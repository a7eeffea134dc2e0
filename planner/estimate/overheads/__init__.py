"""What engines take besides weights and KV cache: one module per engine family, laws only.

The coefficients of each law are in the `memory:` block of the engine release's YAML.
"""
