//! Every row of the table in section 8.
