"""The claim policy under a virtual clock: whole fleets and long jobs in seconds.

Real: the policy, the ticket rules, the rules of cutting and returning. Simulated: time, devices,
their speeds and faults. Not in it: SQL, the broker's and the network's own delays.
"""
