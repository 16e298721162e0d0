"""How fast are the kernels that quantise and decode?"""
