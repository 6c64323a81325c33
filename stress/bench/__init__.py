"""The benchmark: this package and its peers side by side, in one run, beside the limits of the machine.

``channel`` says what is measured of a queue, ``peers`` has one module for each kind of queue, ``scenarios`` what is done
with it, ``host`` runs one scenario on one peer in processes of its own, ``limits`` measures the machine, ``run`` decides
what is measured in which order, ``report`` and ``plot`` show it.
"""
