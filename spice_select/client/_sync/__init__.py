"""The client that blocks, generated from ``_async`` by ``make client``."""

# Generated from ../_async/__init__.py by `make client`: change that file instead.
