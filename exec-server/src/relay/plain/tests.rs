//! Every row of the table in 4.2.
