"""A small inference engine in numpy, to try a plan without a GPU.

Reading order: `config` → `model` (`attention`, `mlp`, `rope`, `ops`) → `cache`, `batch` → `blocks`, `scheduler` →
`engine` (`sampler`, `constrained`, `detokenize`) → `server` (`protocol`, `http`, `loop`) → `load` (`weights`,
`gguf_weights`). Imports nothing of the advisor: what it allocates and answers is evidence, not a second opinion.
"""
