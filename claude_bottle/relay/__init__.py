"""The gate's data plane, a process of its own per bottle: standard library only, one epoll loop."""
