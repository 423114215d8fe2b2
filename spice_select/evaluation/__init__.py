"""Does the chosen part train better? The same start, trained on the choice and on controls, compared on held-out rows.

settings      how every arm is trained, which controls, how sure
hold_out      rows nobody trains on, with nothing like them left in the pool
controls      what the choice is compared with, and the plantings that must lose
material      the rows, encoded for one model
training      one arm: the same steps and tokens as every other
adapters      low-rank adapters, for models too large to train whole
statistics    paired differences over seeds and held-out rows, with intervals
verdict       what follows from them, in words; "cannot tell" where the instrument is blind
experiment    all of it on one model and one pool
report        the numbers of it as JSON
plan          the same in pieces that any worker can do
evaluate      the same from a file to a report
"""
