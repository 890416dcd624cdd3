//! Reaches an exec-server: connects, calls, follows output, resumes.
