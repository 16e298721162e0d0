"""What does Hessian-free optimisation cost, and what do its settings change?"""
