"""The proxy model: loading it, its sizes, its linear layers, adapters, and the memory that it takes."""
