"""Bodies of requests and answers, a file for each noun. Settings models come from the library as they are."""
