"""Results of jobs: ranking, files, previews."""
