"""Which utterances there are: layouts of corpora, manifests, and the corpora that are built in."""
