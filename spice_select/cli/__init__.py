"""The command ``spice-select``.

    main        the entry; what goes wrong becomes one line and an exit status
    datasets    datasets push | list | show | rejected | delete
    jobs        jobs submit | list | show | events | watch | cancel | update | delete | link
    pull        pull: files of a job, ready for a trainer
    local       run, verify, version: no service needed
    evaluation  hold-out, evaluate: no service needed
    options     options that several commands share
    output      tables, JSON and error lines
    progress    the live bar, or plain lines where there is no terminal

torch and pyarrow are imported by ``run``, ``hold-out``, ``evaluate`` and ``verify`` only, and only when they run;
``verify`` does without, and says what it could not check.
"""

from __future__ import annotations

from spice_select.cli.main import main

__all__ = ["main"]
