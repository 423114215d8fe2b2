"""The page for people, at ``/ui``: templates rendered here, two vendored scripts, no build and no other host.

auth               who looks, and that a form was sent by our own page
pages              templates, security headers, errors as pages
statics            style, scripts and their digests
labels             numbers, times and states as a person reads them
jobs               the lists of jobs and of data sets, and the routes of one job
row_page           why a row was selected, or not
dataset_page       a data set: what was read, what was not, and the jobs on it
upload_parts       files in parts, for the script that shows how far they are and goes on where a connection broke
dataset_preview    how a file or a data set is read, with what is learned marked
job_page           what the page of a job shows, from the services
forms              the form of a new job: its routes, and what it would take
target_fields, pool_fields, budget_fields, setting_fields
                   the sections of that form; the last finds every plain setting in the schema of a request
setting            one of them: its label, and its value as text and back
job_form           the sections together as a request
job_clone          the form of a job that is there
form_fields        a form as it was typed, with what is wrong beside each field
job_actions        cancelling, renaming, tagging and deleting a job
evaluation_fields  the fields of the form of an evaluation
evaluation_form    its routes, and cancelling evaluations
evaluation_view    verdicts and intervals of evaluations as drawn
project_page       quotas and history of the project; where its settings begin
api_keys_page      keys: made, rotated, revoked
webhooks_page      webhooks: made, changed, tested, paused, with what was sent
login              sessions in a cookie, where keys are asked for
plots, snippets    plots and comparisons as data; lines to copy
reference          the contract at /docs
"""

from __future__ import annotations
