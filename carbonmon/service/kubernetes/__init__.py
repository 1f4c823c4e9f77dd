"""The pods of a Kubernetes node as runs of its daemon: who says so with an annotation is metered by cgroup.

Nothing of a pod is changed and none of its processes takes part: the API server says which pods the node has
(`api.py`), a pod says what run it is (`pod.py`), the kernel shows its cgroup (`groups.py`), and the daemon is
asked to follow it (`follow.py`).
"""
