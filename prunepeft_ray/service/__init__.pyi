from .client import Client
from .search_job import SearchJob
from .status import Status
from .submission import Submission

__all__ = ["Client", "SearchJob", "Status", "Submission"]
