"""How well does the planner predict what is measured?"""
