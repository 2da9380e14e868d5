"""Locks and the like for replicated objects of your own, by the names of the first ConCoord.

An object keeps them as attributes, and passes the `_concoord_command` on that its method was given:

>>> class Door:
...     def __init__(self):
...         self.lock = DLock()
...     def enter(self, _concoord_command):
...         self.lock.acquire(_concoord_command)
...     def leave(self, _concoord_command):
...         self.lock.release(_concoord_command)

Where a method has to wait it ends there, and its caller's call returns when another call wakes it:
what follows in the method does not run. So to wait is the last thing that a method does. What a
client owns is released when its session ends.
"""
