"""What each job of a study needs: memory, disk and time, from the configuration alone.

Sizes of files are exact but for headers and texts. Memory is what the largest tensors add up to. Time is work (tokens
through blocks, passes, bytes) over the rates of a device. docs/cluster.md says how far they were off.
"""
