"""The machinery under the public functions; nothing in here is public.

In the order in which a call meets it: ``registry`` (a decorated definition becomes a public function) and ``docs``
(what their docstrings share), ``validation`` and ``arrays`` (a call becomes a checked problem over ndarrays),
``backend`` (native module or NumPy), ``reference`` and ``extended`` (the NumPy arithmetic), ``columns`` (those of a
comparison). ``types`` names what travels between them.
"""
