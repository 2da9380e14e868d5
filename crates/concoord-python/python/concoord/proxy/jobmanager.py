"""The proxy of a JobManager."""

from concoord._stock import proxy_class

__all__ = ["JobManager"]

JobManager = proxy_class(__name__, "JobManager")
