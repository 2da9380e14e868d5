"""Jobs."""

from concoord._stock import local_class

__all__ = ["JobManager"]

JobManager = local_class(__name__, "JobManager")
