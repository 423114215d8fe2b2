"""Faults of requests and answers."""

from __future__ import annotations

from tests.mutants.fault import Fault

HTTP = (
    Fault(
        "a list ignores the state that is asked for",
        "http",
        "app/persistence/repositories/rows.py",
        "query = query.where(table.status == self.status)",
        "query = query.where(table.status.is_not(None))",
        ("tests/service/test_jobs.py",),
    ),
    Fault(
        "the cursor of another list is taken",
        "http",
        "app/api/pagination.py",
        '_position(cursor, f"{prefix}_{ULID}")',
        '_position(cursor, f"[a-z]+_{ULID}")',
        ("tests/service/test_slips.py", "tests/service/test_datasets.py"),
    ),
    Fault(
        "a key has one request more than its quota",
        "http",
        "app/api/rate_limit.py",
        "exceeded = used >= self.quota",
        "exceeded = used > self.quota",
        ("tests/service/test_standards.py",),
    ),
    Fault(
        "If-Match is not looked at when a file is read",
        "http",
        "app/api/file_response.py",
        'if wanted and not wanted & {etag, "*"}:',
        "if wanted and False:",
        ("tests/service/test_files.py",),
    ),
    Fault(
        "a range behind the end of a file is let through",
        "http",
        "app/api/file_response.py",
        "            if not kept:\n",
        "            if False:\n",
        ("tests/service/test_files.py",),
    ),
    Fault(
        "a key that is named twice in JSON is taken",
        "http",
        "app/api/middleware.py",
        "if len(value) != len(pairs):",
        "if len(value) > len(pairs):",
        ("tests/service/test_bad_inputs.py",),
    ),
    Fault(
        "the scope of an API key is not looked at",
        "http",
        "app/api/deps.py",
        "if not identified.may(needed):",
        "if False:",
        ("tests/service/test_auth.py",),
    ),
    Fault(
        "a body may be as large as it likes",
        "http",
        "app/api/middleware.py",
        "                if received > limit:",
        "                if received < 0:",
        ("tests/service/test_bad_inputs.py", "tests/service/test_datasets.py"),
    ),
    Fault(
        "If-Match is not looked at when something changes",
        "http",
        "app/services/if_match.py",
        "if expected is not None and version not in expected:",
        "if expected is not None and False:",
        ("tests/service/test_job_edits.py", "tests/service/test_etags.py"),
    ),
    Fault(
        "an Idempotency-Key with another body answers with the first call",
        "http",
        "app/services/idempotency.py",
        "if known.request_sha256 != request_sha256:",
        "if known.request_sha256 == '':",
        ("tests/service/test_jobs.py", "tests/service/test_slips.py"),
    ),
    Fault(
        "a job of another project can be read",
        "http",
        "app/persistence/repositories/jobs.py",
        """    Job.id == bindparam("job_id"), Job.project_id == bindparam("project_id"), Job.deleted_at.is_(None)
)
_HOLD""",
        """    Job.id == bindparam("job_id"), bindparam("project_id").is_not(None), Job.deleted_at.is_(None)
)
_HOLD""",
        ("tests/service/test_auth.py",),
    ),
    Fault(
        "a stream begins anew whatever Last-Event-ID says",
        "http",
        "app/api/sse.py",
        "        after = number_of(given)\n",
        "        number_of(given)\n",
        ("tests/service/test_events.py",),
    ),
    Fault(
        "any text is taken for a request id",
        "http",
        "app/api/middleware.py",
        "given.decode() if REQUEST_ID.fullmatch(given) else",
        'given.decode("latin-1") if given else',
        ("tests/service/test_problems.py", "tests/service/test_slips.py", "tests/service/test_standards.py"),
    ),
    Fault(
        "a signature counts whatever statement lies beside it",
        "http",
        "spice_select/results/signature.py",
        'if envelope.payload != (folder / "provenance.intoto.jsonl").read_bytes():',
        "if envelope.payload is None:",
        ("tests/service/test_signed_results.py",),
    ),
    Fault(
        "a signature counts whoever made it",
        "http",
        "spice_select/results/signature.py",
        "accepted = envelope.verify(keys, 1)",
        "accepted = {'any': None} if envelope.signatures else envelope.verify(keys, 1)",
        ("tests/service/test_signed_results.py",),
    ),
    Fault(
        "the API signs a statement that is not about the job",
        "http",
        "app/services/access/result_signer.py",
        "if made_by != job_id or not subject.items() <= digests.items():",
        "if made_by is None:",
        ("tests/service/test_signed_results.py",),
    ),
)
