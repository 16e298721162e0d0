"""Speech: phones and their states, alignments, decoding, and corpora that anybody can have."""
