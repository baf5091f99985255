"""Build and check the notebooks; nothing that a learner imports."""
