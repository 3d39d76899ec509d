"""The model puller: the init container's program that brings a model from object storage to a volume.

Belongs here: sources by URL (S3-compatible, GCS, a directory), what is expected of a download, and the volume it lands
on. A worker loads only a directory that was renamed into place whole. Start at `pull`.
"""
