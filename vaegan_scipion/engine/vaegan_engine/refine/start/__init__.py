"""The first maps and poses: starts from nothing or from given poses, their resolutions, and the null of a ball."""
