//! Kernel mechanism: rings, sockets, buffers, TLS, clocks, processors. The only directory that may
//! hold `unsafe`, read a clock, or name the runtime's drivers.
//!
//! Sockets are used by readiness: try the system call without blocking, and wait for the event loop
//! only when the kernel says that it would block. Nothing that the kernel still owns is ever
//! dropped that way, so every wait may be abandoned without losing bytes.

mod alarm;
pub mod buffers;
pub mod clock;
pub mod cpu;
pub mod event_loop;
mod fd;
pub mod inbox;
mod lasting;
pub mod listener;
mod outgoing;
pub mod panic;
pub mod pauses;
mod poller;
pub mod process;
pub mod reactor;
mod readiness;
pub mod registered;
pub mod registration;
pub mod ring;
pub mod send_ring;
mod sends;
pub mod socket;
pub mod splice;
pub mod stream;
pub mod substream;
pub mod tls;
mod trial;
pub mod turn;
mod wheel;
