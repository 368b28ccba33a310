"""The explorer: see, compare and run extreme LLM quantization in a browser."""
