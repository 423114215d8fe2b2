"""The page for people, at ``/ui``: templates rendered here, two vendored scripts, no build and no other host.

auth               who looks, and that a form was sent by our own page
pages              templates, security headers, errors as pages
statics            style, scripts and their digests
labels             numbers, times and states as a person reads them
jobs               the lists of jobs and of data sets, and the routes of one job
dataset_preview    how a file or a data set is read, with what is learned marked
job_page           what the page of a job shows, from the services
job_form, forms    the form of a new job: its fields; its routes, clones, cancelling, deleting
evaluation_fields  the fields of the form of an evaluation
evaluation_form    its routes, and cancelling evaluations
evaluation_view    verdicts and intervals of evaluations as drawn
login              sessions in a cookie, where keys are asked for
plots, snippets    plots and comparisons as data; lines to copy
reference          the contract at /docs
"""

from __future__ import annotations
