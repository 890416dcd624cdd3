//! Serves connections: handshake, routing table, outbox; sessions that outlive connections.
