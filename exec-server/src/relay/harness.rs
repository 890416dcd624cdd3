//! The harness's end of a websocket through a rendezvous (9.1, 9.2): one stream, plain or Noise. No I/O, no clock.
