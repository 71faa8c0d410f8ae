"""taylortorch inside of other libraries.

One module for each host: ``deepxde``, ``neurodiffeq``, ``pina``. Each is imported by its full
name, imports its host only when ``enable()`` is called, and says in its documentation what was
tested. All rest on ``passes``.
"""
