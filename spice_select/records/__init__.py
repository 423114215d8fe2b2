"""Records of a data set: which format they have, the conversation in each, and its token ids and labels."""
