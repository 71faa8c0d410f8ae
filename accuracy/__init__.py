"""Accuracy: the errors of the coefficients of every function. ``python -m accuracy`` measures them.

``exact`` has series of mpmath numbers and ``functions`` the references that are written in them;
``cases`` says what is measured and where. ``errors``, ``high_order`` and ``infinity`` measure;
``page`` and ``picture`` write ``docs/accuracy.md`` and ``docs/accuracy.png``. Points are drawn with
a fixed seed, so the page is reproducible; ``tests/test_accuracy.py`` measures again, and holds the
page's claims against what it finds.
"""
