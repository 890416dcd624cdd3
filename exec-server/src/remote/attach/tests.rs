//! Tests of the loop, row by row, in paused time.
