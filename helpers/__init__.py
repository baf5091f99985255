"""The shared package of the course: what the notebooks import, small enough to be read by a learner."""
