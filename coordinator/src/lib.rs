//! A replica that also holds authority.
