"""compile: compiles the int8 model for an accelerator, where a compiler for it is installed."""
