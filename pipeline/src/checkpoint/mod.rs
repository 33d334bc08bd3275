//! Model files: torch zip pickles, safetensors, GGUF and the built-in weights.
