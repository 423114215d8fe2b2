"""The compute side: claims units of work, runs the library on them, commits what came out."""
