"""The command line against a server: the same questions and commands, over HTTP (`--server
URL`).
"""
