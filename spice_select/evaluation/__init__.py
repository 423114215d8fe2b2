"""Does the chosen part train better? The same start, trained on the choice and on controls, compared on held-out rows.

hold_out      rows nobody trains on, with nothing like them left in the pool
"""
