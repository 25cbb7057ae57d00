"""The machinery under the public functions; nothing in here is public.

Reading order: ``types`` (names of things), ``arrays`` (array-likes become ndarrays), ``validation`` (a call becomes a
:class:`~kullback._core.validation.Problem`), ``backend`` (native module or NumPy), ``extended`` and ``reference`` (the
NumPy arithmetic), ``registry`` (one decorated definition becomes one public function).
"""
