//! Kernel mechanism: rings, sockets, buffers, TLS, clocks, processors. The only folder that may
//! hold `unsafe`, read a clock, or name the runtime's drivers.

pub mod tls;
