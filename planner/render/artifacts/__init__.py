"""The targets, one module each; `registry.all_targets` names them."""
