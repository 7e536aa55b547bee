//! The inbox of a worker: messages of the control thread, and what is done about each.

use std::rc::Rc;

use crate::{
    data_plane::core::Core,
    handoff::message::{DrainStep, ToWorker},
    system::inbox::InboxReceiver,
};

/// Reads messages until the control thread is gone. The worker then goes on serving what it has:
/// a proxy that cannot be reconfigured is better than none.
pub(super) async fn read(core: &Rc<Core>, inbox: InboxReceiver<ToWorker>) {
    while let Ok(message) = inbox.receive().await {
        match message {
            ToWorker::Adopt { release, live } => {
                core.renew(live);
                core.adopt(release);
            }
            ToWorker::Renew(live) => core.renew(live),
            ToWorker::Reply { ticket, reply } => core.commands.reply(&ticket, reply),
            ToWorker::Drain(step) => drain(core, step),
        }
    }
    if core.open.step() == DrainStep::Serving {
        tracing::error!(worker = core.worker, "the control thread is gone; serving goes on");
    }
    std::future::pending::<()>().await;
}

fn drain(core: &Rc<Core>, step: DrainStep) {
    if step == DrainStep::Closing {
        core.reactor.shorten_idle(core.current().timeouts.drain_idle);
    }
    if step == DrainStep::Ending {
        core.commands.end();
        core.reactor.end_all();
    }
    core.open.begin(step);
}
