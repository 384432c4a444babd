"""Files and folders, on a disk or in a bucket."""

from prunepeft_ray.storage.files import copy_files, locked, write_whole

__all__ = ["copy_files", "locked", "write_whole"]
