"""The page for people, at ``/ui``: templates rendered here, two vendored scripts, no build and no other host.

access       who looks, and that a form was sent by our own page
pages        templates, security headers, errors as pages
statics      style, scripts and their digests
wording      numbers, times and states as a person reads them
browse       the lists of jobs and of data sets, and the page of one job
login        sessions in a cookie, where keys are asked for
submit       the form of a new job, clones, cancelling, deleting
drafts       what was typed into the form, and what is wrong with it
shelf        what the page of a job shows, from the services
judge        evaluations from the form on a job's page, cancelling them
trial_drafts what was typed into that form, and what is wrong with it
trials       verdicts and intervals of evaluations as drawn
plots, uses  plots and comparisons as data; lines to copy
"""

from __future__ import annotations
