"""olladist turns a TOML list of GPU machines into one Ollama."""

__version__ = "0.1.0.dev0"
