"""The tasks of the bundled data set. Each has a question, a right answer and, where there is one, a wrong answer."""
