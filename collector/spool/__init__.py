"""The spool: what waits on disk for destinations, as received. The worker appends, forwarders read."""
