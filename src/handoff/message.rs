//! Messages between the control thread and the workers.
