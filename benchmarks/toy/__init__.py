"""Does a chosen tenth train better? Models made in code, tuned on what each method chooses."""
