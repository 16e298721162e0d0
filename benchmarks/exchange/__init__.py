"""What does one exchange of gradients cost, in seconds, bytes and memory?"""
