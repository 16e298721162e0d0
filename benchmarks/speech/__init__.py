"""The papers on their own task: frames of speech."""
