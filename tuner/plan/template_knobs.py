"""What ``tuner init --full`` adds: one commented table for each further knob."""

from __future__ import annotations

CANARY = """\
# [canary]                     # tuner canary: is a new variant slower than the one above?
# variant = "Candidate"        # of the same endpoint; default: the only other one
# endpoint = "my-endpoint-new" # or another endpoint
# url = "http://127.0.0.1:8081/invocations"  # kind = "http": where the candidate answers
# rate_per_s = 60              # on either variant; default: load.start_rate_per_s
# slower_by = 0.05             # the slow-down that counts, as a share of latency
# alpha = 0.05                 # false alarms, however often one looks
# max_minutes = 120            # then an open question stays open
# size_percent = 10            # of the deployment's canary; default: the smallest that shows it
# traffic_per_s = 200          # of the endpoint while a release is let in; default: rate_per_s
"""

TABLES: tuple[str, ...] = (CANARY,)
"""In the order of the file."""
