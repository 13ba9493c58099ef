"""From the end of a request to the policy service: records, the spool on disk, and the stream that empties it."""
