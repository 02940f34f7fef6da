"""Writers of deployable artifacts, and the checks that they equal the model."""
