"""Use cases. One call is one transaction; API and workers share them."""
