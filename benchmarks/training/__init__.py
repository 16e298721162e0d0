"""What does a training run cost, in seconds and bytes, until it is as good as it should be?"""
