from typing import Any

__all__ = ["JobManager"]

class JobManager:
    """Jobs: dicts, each known by what it has under "id", or that alone."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Start anew, without jobs."""
    def schedule(self, job: object) -> bool:
        """Add a job; return False if there is one with its id."""
    def add_job(self, job: object) -> bool:
        """Add a job; return False if there is one with its id."""
    def deschedule(self, job: object) -> bool:
        """Remove a job and return True; raise KeyError if there is none with its id."""
    def remove_job(self, job: object) -> bool:
        """Remove a job and return True; raise KeyError if there is none with its id."""
    def update(self, job: object, key: object, value: object) -> None:
        """Set what a job has under `key`; raise KeyError if there is no such job."""
    def list_jobs(self) -> list[dict[Any, Any]]:
        """Return the jobs, the first scheduled first."""
    def __len__(self) -> int:
        """Return how many jobs there are."""
    def __contains__(self, job: object) -> bool:
        """Return whether there is a job with its id."""
