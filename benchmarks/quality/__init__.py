"""Does selection beat random rows on a real language model? The protocol is ``docs/evaluation-protocol.md``."""
