//! What users would pick instead, driven by the same seeded work.
fn main() {}
