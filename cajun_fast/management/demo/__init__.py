"""``cajun-fast demo``: node processes that pass transfers, one of them killed, and a verdict on all of them.

    ranges    sets of sequence numbers as spans
    books     what each process writes down, in a file that outlives its process
    verdict   the books of all processes against each other; pure
    accounts  the actors that transfer and write
    nodes     the processes
    show      conducts the whole
    screen    what is printed
    interrupts  what a signal does to all of it

What is verified, and how precisely, stands in ``verdict``.
"""
