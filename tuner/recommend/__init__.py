"""From capacity and traffic to a policy, with the rejected ones and why."""
