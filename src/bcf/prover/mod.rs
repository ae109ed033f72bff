//! Proves conditions: finds a refutation and writes it as a BCF proof.

pub mod sat;
